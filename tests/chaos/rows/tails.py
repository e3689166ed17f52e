"""D2b: Redis comes back with the end of its file missing, at any byte; every video that was accepted is still going to be analysed."""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from deploy.stack import HOST, answers, free_ports, redis_program
from deploy.supervisor import StackError, Supervisor
from shared.queue_upkeep import UpkeepQueue
from shared.upkeep import reconcile
from tests.chaos.client import Client
from tests.chaos.drill import Drill, Verdict
from tests.chaos.supervise import Service, say_nothing

FULL: Final = 200
JOBS: Final = 100
COPIES: Final = 5
MARK: Final = "Redis starts on every one of the shortened files, and after upkeep it knows every analysis that was accepted"


def run(drill: Drill) -> Verdict:
    n, chance = drill.size(FULL), drill.chance()
    with (
        Service(drill.folder, models=drill.common, workers=0, triton=False) as service,
        Client(service.url) as client,
    ):
        copies, ids = copied_under_load(drill, service, client)
        starts, lost = 0, 0
        for number in range(n):
            broken = drill.folder / f"broken-{number}"
            shutil.copytree(chance.choice(copies), broken)
            shorten(broken, share=chance.random())
            try:
                lost += lost_after_upkeep(broken, service, ids)
                starts += 1
            except StackError as error:
                drill.say(str(error))
            shutil.rmtree(broken)
    return Verdict(id="D2b", n=n, passed=(starts, lost) == (n, 0), value={"starts": starts, "analyses": len(ids), "lost": lost}, mark=MARK)


def copied_under_load(drill: Drill, service: Service, client: Client) -> tuple[list[Path], list[str]]:
    """Redis's folder at several moments while videos are accepted, and the ids of all of these."""
    keys, copies = [f"tail-{drill.seed}-{number}" for number in range(JOBS)], []
    with ThreadPoolExecutor(1) as pool:
        posted = pool.submit(client.post_all, drill.clips(1), keys=keys, within_s=60)
        for number in range(COPIES):
            while sum(1 for _ in (service.data / "analyses").glob("*")) < JOBS * number / COPIES:
                pass
            copies.append(drill.folder / f"copy-{number}")
            shutil.copytree(service.home / "redis", copies[-1])
        return copies, posted.result()


def shorten(folder: Path, *, share: float) -> None:
    """Cut the file that Redis appends to."""
    (path,) = (path for path in folder.rglob("*.aof") if ".base." not in path.name)
    with path.open("r+b") as file:
        file.truncate(round(path.stat().st_size * share))


def lost_after_upkeep(folder: Path, service: Service, ids: Sequence[str]) -> int:
    """How many of the analyses a Redis on this folder does not know. Raises StackError when it does not start."""
    (port,) = free_ports(1)
    url = f"redis://{HOST}:{port}/0"
    with Supervisor(logs=folder / "logs", directory=folder, announce=say_nothing) as programs:
        programs.start(redis_program(home=folder, port=port))
        programs.wait("redis", lambda: answers(url), timeout_s=20)
        queue = UpkeepQueue(url)
        try:
            reconcile(service.videos, queue)
            return sum(state is None for state in queue.states(ids).values())
        finally:
            queue.close()
