"""D3: Redis loses everything in the middle of the work, first its memory and then its disk; the data folder has it all."""

import time
from typing import Final

import redis

from shared.upkeep import reconcile
from tests.chaos.client import Answer, Client
from tests.chaos.drill import Drill, Verdict
from tests.chaos.leftovers import leftovers
from tests.chaos.supervise import Service
from tests.chaos.waiting import wait_for

FULL: Final = 100
WITHIN_S: Final = 60.0
MARK: Final = "all are final 60 s after upkeep has put them back; one result each; what was final before says the same afterwards"


def run(drill: Drill) -> Verdict:
    n = drill.size(FULL)
    clips = drill.clips(min(n, 5))
    with Service(drill.folder, models=drill.models(), settings={"MIEN_LEASE_S": "2"}) as service, Client(service.url) as client:
        ids = client.post_all(clips, keys=[f"wipe-{drill.seed}-{number}" for number in range(n)], within_s=300)
        wait_for(lambda: client.states(ids)["succeeded"] >= n / 2, within_s=600, what="the first half")
        before = finished(client)
        flush(service)
        put_back = restored(service)
        wait_for(lambda: client.states(ids)["succeeded"] > len(before), within_s=WITHIN_S, what="one more")
        before |= finished(client)
        delete_volume(service)
        put_back += restored(service)
        began = time.monotonic()
        records = client.all_final(ids, within_s=600)
        took_s = time.monotonic() - began
        again = finished(client)
        changed = sum(again.get(job_id) != result for job_id, result in before.items())
        left = leftovers(service, set(ids))
    succeeded = sum(record["state"] == "succeeded" for record in records)
    return Verdict(
        id="D3",
        n=n,
        passed=(succeeded, changed, len(left)) == (n, 0, 0) and took_s <= WITHIN_S,
        value={
            "succeeded": succeeded,
            "put_back": put_back,
            "seconds": round(took_s, 1),
            "final_before": len(before),
            "changed": changed,
            "left_over": left[:10],
        },
        mark=MARK,
    )


def finished(client: Client) -> dict[str, Answer]:
    """The results there are."""
    return {job["id"]: client.result(job["id"]) for job in client.jobs() if job["state"] == "succeeded"}


def flush(service: Service) -> None:
    with redis.Redis.from_url(service.redis_url) as connection:
        connection.flushall()


def delete_volume(service: Service) -> None:
    with service.programs.down("redis"):
        for path in (service.home / "redis").rglob("*.aof*"):
            path.unlink()
    wait_for(service.is_ready, within_s=60, what="a new Redis")


def restored(service: Service) -> int:
    with service.upkeep() as queue:
        count, _ = reconcile(service.videos, queue)
    return count
