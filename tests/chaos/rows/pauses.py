"""D5: a worker stands still for longer than its lease, somebody else does its job, and then it wakes up."""

import hashlib
import json
from typing import Any, Final

from tests.chaos.client import Client
from tests.chaos.drill import Drill, Verdict
from tests.chaos.leftovers import leftovers
from tests.chaos.supervise import Service
from tests.chaos.waiting import wait_for

FULL: Final = 100
LEASE_S: Final = 1.0
WORKERS: Final = ("worker", "worker-2")
MARK: Final = "one result each; neither record nor result changes when the worker that stood still wakes up; nothing else stays on the disk"


def run(drill: Drill) -> Verdict:
    n = drill.size(FULL)
    (clip,) = drill.clips(1)
    service = Service(drill.folder, models=drill.models(), workers=2, settings={"MIEN_LEASE_S": str(LEASE_S)})
    with service, Client(service.url) as client:
        service.freeze(WORKERS[1])
        ids, changed, attempts = [], 0, []
        for number in range(n):
            first, second = WORKERS[number % 2], WORKERS[(number + 1) % 2]
            job_id = client.post(clip, key=f"pause-{drill.seed}-{number}", within_s=30)
            ids.append(job_id)
            wait_for(lambda job_id=job_id: client.job(job_id)["state"] == "running", within_s=60, what="the start", every_s=0.02)
            service.freeze(first)
            service.thaw(second)
            (record,) = client.all_final([job_id], within_s=60)
            before = fingerprint(client, job_id)
            attempts.append(record["attempts"])
            service.thaw(first)
            wait_for(
                lambda first=first, job_id=job_id: has_given_up(service, first, job_id),
                within_s=60,
                what="the end of the attempt that lost",
            )
            changed += fingerprint(client, job_id) != before
            service.freeze(first)  # in the next round it is the other one that wakes up late
        for name in WORKERS:
            service.thaw(name)
        succeeded = client.states(ids)["succeeded"]
        left = leftovers(service, {job["id"] for job in client.jobs()})
    return Verdict(
        id="D5",
        n=n,
        passed=(succeeded, changed, len(left)) == (n, 0, 0) and min(attempts) > 1,
        value={"succeeded": succeeded, "overwritten": changed, "attempts": sorted(set(attempts)), "left_over": left[:10]},
        mark=MARK,
    )


def fingerprint(client: Client, job_id: str) -> str:
    """Of everything that a client can see of a final analysis."""
    seen: tuple[Any, ...] = (client.job(job_id), client.result(job_id))
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()


def has_given_up(service: Service, worker: str, job_id: str) -> bool:
    """Whether a worker has said how its attempt at the job ended."""
    lines = service.programs.log(worker).read_text(errors="replace").splitlines()
    return any(job_id in line and '"ended"' in line for line in lines)
