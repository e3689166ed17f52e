"""F1: the lines to Redis and to Triton go bad in every way that lines do, and come back."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from tests.chaos.client import Client, server_errors
from tests.chaos.drill import Drill, Verdict
from tests.chaos.faultproxy import FaultProxy, bandwidth, latency, limit_data, reset_peer, slicer, timeout
from tests.chaos.supervise import Service
from tests.chaos.waiting import wait_for

FULL: Final = 20
"""Videos for each fault of each line."""
BAD_FOR_S: Final = 8.0
FINAL_WITHIN_S: Final = 60.0
GATEWAY_ANSWERS_WITHIN_S: Final = 2.0
"""As `shared.queue` says of the gateway's side."""
MARK: Final = (
    "all succeed 60 s after the line is good again, each with the result of an undisturbed run; no untyped answer; no status takes the "
    "gateway longer than its 2 s for Redis and 1 s more"
)

Fault = Callable[[FaultProxy], AbstractContextManager[None]]
FAULTS: Final[dict[str, Fault]] = {
    "latency": lambda line: line.toxic(latency(2.0, jitter_s=1.0)),
    "timeout": lambda line: line.toxic(timeout()),
    "reset_peer": lambda line: line.toxic(reset_peer()),
    "slicer": lambda line: line.toxic(slicer(1)),
    "bandwidth": lambda line: line.toxic(bandwidth(8 * 1024)),
    "limit_data": lambda line: line.toxic(limit_data(3000)),
    "down": lambda line: line.down(),
}


def run(drill: Drill) -> Verdict:
    each = drill.size(FULL)
    clips = drill.clips(min(each, 3))
    seen: dict[str, dict[str, object]] = {}
    service = Service(drill.folder, models=drill.models(), links=True, settings={"MIEN_LEASE_S": "5"})
    with service, Client(service.url) as client:
        golden = client.post_all(clips, keys=[f"golden-{number}" for number in range(len(clips))], within_s=60)
        client.all_final(golden, within_s=120)
        undisturbed = [client.result(job_id) for job_id in golden]
        for where, line in {"redis": service.to_redis, "triton": service.to_triton}.items():
            for name, fault in FAULTS.items():
                keys = [f"{where}-{name}-{number}" for number in range(each)]
                seen[f"{where} {name}"] = found = one(service, client, fault(line), clips, keys, undisturbed)
                drill.say(f"{where} {name}: {found}")
        errors, slowest_s = server_errors(client.statuses), client.slowest_s
    bad = {name: found for name, found in seen.items() if found["wrong"] or found["failures"] or found["seconds"] > FINAL_WITHIN_S}
    return Verdict(
        id="F1",
        n=each * len(seen),
        passed=not bad and errors == 0 and slowest_s <= GATEWAY_ANSWERS_WITHIN_S + 1,
        value={
            "bad": bad,
            "untyped_answers": errors,
            "slowest_answer_s": round(slowest_s, 1),
            "slowest_recovery_s": max(found["seconds"] for found in seen.values()),
        },
        mark=MARK,
    )


def one(
    service: Service, client: Client, fault: AbstractContextManager[None], clips: list, keys: list[str], undisturbed: list
) -> dict[str, object]:
    """Half of the videos are accepted before the line goes bad, the other half when it may be bad or good."""
    half = (len(keys) + 1) // 2
    ids = client.post_all(clips, keys=keys[:half], within_s=60)
    wait_for(lambda: client.states(ids)["running"] + client.states(ids)["succeeded"] > 0, within_s=60, what="a job that runs")
    with fault:
        until = time.monotonic() + BAD_FOR_S
        while time.monotonic() < until:
            for job_id in ids:
                client.ask_timed(f"/v1/analyses/{job_id}")
            time.sleep(0.5)
    began = time.monotonic()
    ids += [client.post(clips[number % len(clips)], key=keys[number], within_s=60) for number in range(half, len(keys))]
    records = client.all_final(ids, within_s=180)
    took_s = time.monotonic() - began
    good = [client.result(job_id) if record["state"] == "succeeded" else None for job_id, record in zip(ids, records, strict=True)]
    return {
        "wrong": sum(result != undisturbed[number % len(clips)] for number, result in enumerate(good)),
        "failures": sorted({str(record["failure"]["code"]) for record in records if record["failure"]}),
        "seconds": round(took_s, 1),
    }
