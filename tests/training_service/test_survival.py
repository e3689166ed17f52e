"""Real runs under a real service: watched, stopped, killed, and whole in the end all the same."""

import os
import signal
from pathlib import Path
from typing import Any

from tests.tiny_runs import tiny_plan
from tests.training_service.conftest import Service, running, until

LONG = tiny_plan(epochs=500)


def epochs(service: Service, run_id: str) -> int:
    return len(service.runs.epochs(run_id))


def pids(service: Service) -> set[int]:
    return {process.pid for process in service.working()}


def test_a_run_is_told_from_its_start_to_its_end(service: Service) -> None:
    run_id = service.submit(tiny_plan(epochs=3, rounds=1))
    told = list(service.events(run_id))
    assert told[0][0] == "run"
    assert told[0][2]["state"] in {"queued", "running"}
    assert [(of["round"], of["epoch"]) for event, _, of in told if event == "epoch"] == [(n, e) for n in (0, 1) for e in (1, 2, 3)]
    event, last_id, end = told[-1]
    assert (event, end["state"], end["attempts"]) == ("run", "succeeded", 1)
    assert end == service.get(f"/v1/runs/{run_id}")
    assert len({place for _, place, _ in told}) == len(told)

    middle = next(place for event, place, of in told if event == "epoch" and (of["round"], of["epoch"]) == (0, 2))
    after = list(service.events(run_id, **{"Last-Event-ID": middle}))
    assert [(of["round"], of["epoch"]) for event, _, of in after if event == "epoch"] == [(0, 3), (1, 1), (1, 2), (1, 3)]
    assert after[-1] == told[-1]
    assert list(service.events(run_id, **{"Last-Event-ID": last_id})) == []

    assert [each["number"] for each in service.get(f"/v1/runs/{run_id}/record")["rounds"]] == [0, 1]
    report = service.http.get(f"/v1/runs/{run_id}/report")
    assert report.headers["content-type"] == "text/markdown; charset=utf-8"
    assert report.text.startswith("# Run tiny\n")
    assert service.http.delete(f"/v1/runs/{run_id}").status_code == 204
    assert not service.runs.folder(run_id).exists()


def test_the_same_key_is_the_same_run(service: Service) -> None:
    first, second = tiny_plan(seed=1), tiny_plan(seed=2)
    key: dict[str, Any] = {"Idempotency-Key": "my first run"}
    run_id = service.submit(first, **key)
    assert service.submit(first, **key) == run_id
    body = {"name": "tiny", "labelled": [{"store": "painted"}]}
    assert service.post("/v1/runs", body, status=422, **key)["code"] == "run-mismatch"
    assert service.submit(second) != run_id
    assert len(service.get("/v1/runs")["runs"]) == 2


def test_a_run_is_canceled_resumed_and_canceled_again(service: Service) -> None:
    run_id = service.submit(LONG)
    until(lambda: epochs(service, run_id) >= 1)
    assert service.post(f"/v1/runs/{run_id}:cancel")["cancel_requested"]
    canceled = service.ended(f"/v1/runs/{run_id}")
    assert (canceled["state"], canceled["deaths"]) == ("canceled", 0)
    until(lambda: not service.working())
    before = epochs(service, run_id)
    service.post(f"/v1/runs/{run_id}:resume")
    until(lambda: epochs(service, run_id) > before)
    assert service.get(f"/v1/runs/{run_id}")["attempts"] == 2
    service.post(f"/v1/runs/{run_id}:cancel")
    assert service.ended(f"/v1/runs/{run_id}")["state"] == "canceled"


def test_a_killed_service_leaves_the_run_to_its_process_and_the_next_service_takes_it_back(service: Service) -> None:
    run_id, waiting = service.submit(tiny_plan(epochs=25)), service.submit(tiny_plan(seed=2))
    until(lambda: epochs(service, run_id) >= 1)
    assert service.get(f"/v1/runs/{waiting}")["state"] == "queued", "one at a time"
    service.kill()
    worker = pids(service)
    assert len(worker) == 1
    service.start()
    assert pids(service) <= worker, "nobody else works on it"
    ended = service.ended(f"/v1/runs/{run_id}")
    assert (ended["state"], ended["attempts"], ended["deaths"]) == ("succeeded", 1, 0)
    other = service.ended(f"/v1/runs/{waiting}")
    assert other["state"] == "succeeded"
    assert other["started_ms"] >= ended["ended_ms"]
    assert other["version"] == ended["version"] + 1


def test_what_was_promised_survives_the_death_of_everything(service: Service) -> None:
    run_id = service.submit(tiny_plan(epochs=8))
    until(lambda: epochs(service, run_id) >= 2)
    service.kill()
    for pid in pids(service):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not service.working())
    before = service.runs.epochs(run_id)
    service.start()
    ended = service.ended(f"/v1/runs/{run_id}")
    assert (ended["state"], ended["attempts"], ended["deaths"]) == ("succeeded", 2, 1)
    assert service.runs.epochs(run_id)[: len(before)] == before


def test_a_service_that_is_told_to_stop_stops_its_runs_and_its_streams(service: Service) -> None:
    run_id = service.submit(LONG)
    until(lambda: epochs(service, run_id) >= 1)
    stream = service.events(run_id)
    assert next(stream)[0] == "run"
    assert service.stop() < 20
    assert all(event in {"run", "epoch"} for event, _, _ in stream), "it ended as streams end"
    assert service.working() == []
    left = service.runs.get(run_id)
    assert (left.state, left.deaths) == ("queued", 0)


def test_processes_that_share_a_run_and_are_told_to_stop_did_not_die(tmp_path: Path) -> None:
    """By whoever stops torchrun, and by the service that is stopped itself."""
    with running(tmp_path, MIEN_TRAINING_PROCESSES="2") as service:
        run_id = service.submit(LONG)
        until(lambda: epochs(service, run_id) >= 1)
        (torchrun,) = service.working("training.together")
        torchrun.terminate()
        until(lambda: service.runs.get(run_id).attempts == 2)
        assert service.runs.get(run_id).deaths == 0
        service.stop()
        left = service.runs.get(run_id)
        assert (left.state, left.deaths) == ("queued", 0)
        assert service.working() == []


def test_a_plan_that_fails_says_why_and_the_service_goes_on(service: Service) -> None:
    (service.home / "crops" / "judge" / "samples.jsonl").write_text("{}\n")
    broken = service.ended(f"/v1/runs/{service.submit(tiny_plan())}")
    assert (broken["state"], broken["failure"]["code"]) == ("failed", "data-unusable")
    assert service.get("/healthz") == {"status": "alive"}
