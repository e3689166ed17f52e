"""D1: any part dies at any moment, again and again; nothing that was accepted is lost, and nothing is done twice."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.chaos.client import Client, server_errors
from tests.chaos.drill import Drill, Verdict
from tests.chaos.leftovers import leftovers
from tests.chaos.supervise import Service

FULL: Final = 200
DIFFERENT: Final = 10
EVERY_S: Final = 5.0
DOWN_S: Final = 0.5
PARTS: Final = ("gateway", "worker", "redis", "triton")
WITHIN_S: Final = 900.0
MARK: Final = (
    "all succeed; one id per key; one result each, equal to an undisturbed run; no orphans after upkeep; nothing untyped; within 15 min"
)


def run(drill: Drill) -> Verdict:
    n = drill.size(FULL)
    clips = drill.clips(min(n, DIFFERENT))
    keys = [f"kill-{drill.seed}-{number}" for number in range(n)]
    with Service(drill.folder, models=drill.models(), settings={"MIEN_LEASE_S": "5"}) as service, Client(service.url) as client:
        undisturbed = [client.result(job_id) for job_id in golden(client, clips, seed=drill.seed)]
        began = time.monotonic()
        ids, kills = under_fire(service, client, drill, clips, keys)
        took_s = time.monotonic() - began
        records = client.all_final(ids, within_s=60)
        again = client.post_all(clips, keys=keys, within_s=120)
        different = sum(client.result(job_id) != undisturbed[number % len(clips)] for number, job_id in enumerate(ids))
        known = {job["id"] for job in client.jobs()}
        left = leftovers(service, known)
        errors = server_errors(client.statuses)
    succeeded = sum(record["state"] == "succeeded" for record in records)
    extra = len(known) - n - len(clips)
    return Verdict(
        id="D1",
        n=n,
        passed=(succeeded, len(set(ids)), again, different, extra, len(left), errors) == (n, n, ids, 0, 0, 0, 0) and took_s <= WITHIN_S,
        value={
            "succeeded": succeeded,
            "ids": len(set(ids)),
            "other_ids_when_repeated": sum(a != b for a, b in zip(ids, again, strict=True)),
            "results_that_differ": different,
            "analyses_beyond_the_keys": extra,
            "left_over": left[:10],
            "untyped_answers": errors,
            "most_attempts": max(record["attempts"] for record in records),
            "failures": sorted({str(record["failure"]["code"]) for record in records if record["failure"]}),
            "kills": kills,
            "seconds": round(took_s),
        },
        mark=MARK,
    )


def golden(client: Client, clips: list[Path], *, seed: int) -> list[str]:
    """Each clip once, with nobody in the way."""
    ids = client.post_all(clips, keys=[f"golden-{seed}-{number}" for number in range(len(clips))], within_s=120)
    client.all_final(ids, within_s=300)
    return ids


def under_fire(service: Service, client: Client, drill: Drill, clips: list[Path], keys: list[str]) -> tuple[list[str], dict[str, int]]:
    """Post everything and wait for its end, while a random part is killed every few seconds; the ids, and who was killed how often."""
    chance, kills = drill.chance(), dict.fromkeys(PARTS, 0)
    with ThreadPoolExecutor(1) as pool:
        ends: Future[list[str]] = pool.submit(posted_and_over, client, clips, keys)
        while not ends.done():
            time.sleep(EVERY_S - DOWN_S)
            part = chance.choice(PARTS)
            kills[part] += 1
            with service.programs.down(part):
                time.sleep(DOWN_S)
            drill.say(f"killed {part}")
        return ends.result(), kills


def posted_and_over(client: Client, clips: list[Path], keys: list[str]) -> list[str]:
    ids = client.post_all(clips, keys=keys, within_s=WITHIN_S)
    client.all_final(ids, within_s=WITHIN_S)
    return ids
