"""What lies in the data folder that no analysis accounts for, once upkeep has done what it would do in a day."""

import os
import time
from collections.abc import Collection
from pathlib import Path

from shared.upkeep import clear_ended, reconcile
from tests.chaos.supervise import Service

TWO_DAYS_S = 2 * 86400


def leftovers(service: Service, known: Collection[str]) -> list[str]:
    """Everything but a record, an end and one result for each of the analyses in `known`."""
    videos = service.videos
    with service.upkeep() as queue:
        clear_ended(videos, queue, settled_s=0)
        reconcile(videos, queue)
    grow_old(service.data / "incoming")
    videos.sweep()
    strangers = [f"{job_id} is nobody's" for job_id in videos.ids() if job_id not in known]
    missing = [f"{job_id} has no folder" for job_id in known if job_id not in set(videos.ids())]
    repeated = [f"{job_id} has {count} results" for job_id in videos.ids() if (count := len(videos.results(job_id))) > 1]
    unfinished = [str(path.relative_to(service.data)) for path in service.data.rglob("*") if path.name.startswith(".")]
    return [*strangers, *missing, *repeated, *unfinished, *(path.name for path in (service.data / "incoming").iterdir())]


def grow_old(folder: Path) -> None:
    """As if what lies there had lain there for two days."""
    then = time.time() - TWO_DAYS_S
    for path in folder.iterdir():
        os.utime(path, (then, then))
