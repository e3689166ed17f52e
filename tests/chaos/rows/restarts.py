"""D8: every part is told to stop, in the middle of the work, one after the other and again: nobody notices but by waiting."""

import signal
import time
from collections import defaultdict
from typing import Final

from tests.chaos.client import Client, server_errors
from tests.chaos.drill import Drill, Verdict
from tests.chaos.supervise import Service
from tests.chaos.waiting import wait_for
from tests.chaos.work import busy

FULL: Final = 20
PARTS: Final = ("gateway", "worker", "redis", "triton")
GRACE_S: Final = 1.0
HANDS_BACK_WITHIN_S: Final = 2.0
STOPS_WITHIN_S: Final = 12.0
"""A second or two more than Triton gives the models that it runs, and far less than the grace of 45 s in a container."""
MARK: Final = (
    "all succeed; no untyped answer; the worker has handed its job back 2 s after its grace, and nobody needs to be killed within 12 s"
)


def run(drill: Drill) -> Verdict:
    n = drill.size(FULL)
    stops_s: dict[str, list[float]] = defaultdict(list)
    settings = {"MIEN_GRACE_S": str(GRACE_S), "MIEN_LEASE_S": "10"}
    with Service(drill.folder, models=drill.models(), settings=settings) as service, Client(service.url) as client:
        with busy(client, drill.clips(3), name=f"restart-{drill.seed}") as ids:
            for number in range(n):
                for part in PARTS:
                    wait_for(lambda: client.states(ids)["running"] > 0, within_s=120, what="a job that runs")
                    began = time.monotonic()
                    with service.programs.down(part, by=signal.SIGTERM):
                        stops_s[part].append(time.monotonic() - began)
                    wait_for(service.is_ready, within_s=120, what=f"{part} to be back")
                drill.say(f"round {number + 1} of {n}: {len(ids)} posted")
        records = client.all_final(ids, within_s=300)
        errors = server_errors(client.statuses)
    succeeded = sum(record["state"] == "succeeded" for record in records)
    slowest = {part: round(max(times), 1) for part, times in stops_s.items()}
    return Verdict(
        id="D8",
        n=n * len(PARTS),
        passed=succeeded == len(ids)
        and errors == 0
        and slowest["worker"] <= GRACE_S + HANDS_BACK_WITHIN_S
        and max(slowest.values()) <= STOPS_WITHIN_S,
        value={
            "analyses": len(ids),
            "succeeded": succeeded,
            "failures": sorted({str(record["failure"]["code"]) for record in records if record["failure"]}),
            "untyped_answers": errors,
            "slowest_stop_s": slowest,
            "most_attempts": max(record["attempts"] for record in records),
        },
        mark=MARK,
    )
