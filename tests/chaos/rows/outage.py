"""F2: the model server is away for two minutes while fifty videos wait."""

import time
from typing import Final

from tests.chaos.client import Client
from tests.chaos.drill import Drill, Verdict
from tests.chaos.supervise import Service
from tests.chaos.waiting import seconds_until, wait_for

FULL: Final = 50
DOWN_S: Final = 120.0
STOPS_WITHIN_S: Final = 5.0
RECOVERS_WITHIN_S: Final = 10.0
MARK: Final = (
    "all succeed; nothing runs 5 s after the model is gone; /readyz blames the model; work goes on 10 s after it is back; no attempt is "
    "counted that met no model"
)


def run(drill: Drill) -> Verdict:
    n = drill.size(FULL)
    with Service(drill.folder, models=drill.models()) as service, Client(service.url) as client:
        ids = client.post_all(drill.clips(1), keys=[f"outage-{drill.seed}-{number}" for number in range(n)], within_s=120)
        wait_for(lambda: client.states(ids)["running"] > 0, within_s=60, what="the first one to run")
        down_s = max(20.0, DOWN_S * min(1.0, drill.scale))
        began = time.monotonic()
        with service.programs.down("triton"):
            stops_s = seconds_until(lambda: client.states(ids)["running"] == 0, within_s=30)
            blamed = service.readiness()
            before = client.states(ids)
            time.sleep(max(0.0, down_s - (time.monotonic() - began)))
            during = client.states(ids)
            attempts_during = sorted(job["attempts"] for job in client.jobs() if job["id"] in ids and job["state"] == "queued")
        model_s = seconds_until(service.is_ready, within_s=120)
        recovers_s = seconds_until(lambda: client.states(ids)["succeeded"] > during["succeeded"], within_s=60)
        records = client.all_final(ids, within_s=20.0 * n + 60)
    succeeded = sum(record["state"] == "succeeded" for record in records)
    twice = sum(record["attempts"] > 1 for record in records)
    return Verdict(
        id="F2",
        n=n,
        passed=succeeded == n
        and stops_s <= STOPS_WITHIN_S
        and blamed == (503, "model")
        and recovers_s <= RECOVERS_WITHIN_S
        and sum(attempts_during) <= 1
        and twice <= 1,
        value={
            "succeeded": succeeded,
            "stops_s": round(stops_s, 1),
            "readyz": list(blamed),
            "states_during": [dict(before), dict(during)],
            "attempts_of_those_that_waited": sum(attempts_during),
            "begun_more_than_once": twice,
            "model_back_s": round(model_s, 1),
            "recovers_s": round(recovers_s, 1),
            "down_s": round(down_s),
        },
        mark=MARK,
    )
