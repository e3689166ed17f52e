"""From a finished run to the champion and back over HTTP, with a real Triton and a real Redis."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.queue import CHAMPION, WorkerQueue
from tests.candidates import SIGNER, contestant, write_signed
from tests.painted import write_painted_store
from tests.tiny_runs import tiny_plan
from tests.training_service.conftest import Service, running
from tests.triton_server import StartTriton
from training.export import export
from training.record import CANDIDATE


@pytest.fixture
def champion(redis_url: str) -> Iterator[WorkerQueue]:
    queue = WorkerQueue(redis_url)
    yield queue
    queue.close()


@pytest.fixture
def publishing(tmp_path: Path, start_triton: StartTriton, redis_url: str) -> Iterator[Service]:
    """A service that can publish; release 1 is served, and knows painted faces."""
    write_painted_store(tmp_path / "crops" / "frozen", 140, seed=3)
    keys = {"MIEN_SIGNING_KEY": tmp_path / "private.pem", "MIEN_TRUSTED_KEYS": tmp_path / "trusted.pem"}
    keys["MIEN_SIGNING_KEY"].write_bytes(SIGNER.pem())
    keys["MIEN_TRUSTED_KEYS"].write_bytes(SIGNER.trusted.pem())
    export(write_signed(tmp_path / "first", contestant(1)), tmp_path / "models", signer=SIGNER)
    with (
        start_triton(tmp_path / "models") as triton,
        running(
            tmp_path,
            MIEN_REDIS_URL=redis_url,
            MIEN_TRITON_HTTP=triton.http,
            MIEN_FROZEN="frozen",
            **{name: str(path) for name, path in keys.items()},
        ) as service,
    ):
        yield service


def finished_run(service: Service) -> str:
    """A run that has come to a network which knows painted faces."""
    run = service.runs.accept(tiny_plan())
    with service.runs.hold(run.id):
        service.runs.begin(run.id)
        write_signed(service.runs.folder(run.id) / CANDIDATE, contestant(run.version))
        service.runs.succeed(run.id)
    return run.id


def published(service: Service, run_id: str, *, promote: bool = True) -> Any:
    accepted = service.http.post("/v1/releases", json={"run": run_id, "promote": promote})
    assert (accepted.status_code, accepted.headers["location"]) == (202, f"/v1/publications/{accepted.json()['id']}")
    return service.ended(accepted.headers["location"])


def test_a_candidate_becomes_champion_and_is_taken_back(publishing: Service, champion: WorkerQueue) -> None:
    done = published(publishing, finished_run(publishing))
    assert (done["state"], done["version"], done["links"]["release"]) == ("succeeded", 2, "/v1/releases/2")
    assert champion.alias(CHAMPION) == 2
    listed = publishing.get("/v1/releases")["releases"]
    assert [(release["version"], release["aliases"]) for release in listed] == [(2, ["champion"]), (1, [])]
    assert publishing.get("/v1/releases/2")["aliases"] == ["champion"]
    assert publishing.post("/v1/aliases/champion:rollback") == {"version": 1}
    assert champion.alias(CHAMPION) == 1
    assert publishing.post("/v1/releases/2:promote") == {"version": 2}
    assert champion.alias(CHAMPION) == 2
    assert publishing.get("/readyz")["status"] == "ready"


def test_a_worse_candidate_changes_nothing_and_says_why(publishing: Service, champion: WorkerQueue) -> None:
    def repository() -> list[str]:
        return sorted(path.name for path in (publishing.home / "models").iterdir() if path.name != ".lock")

    before = repository()
    run_id = finished_run(publishing)
    untaught = contestant(publishing.runs.get(run_id).version)
    untaught.network.clip.output.weight.data.zero_()
    write_signed(publishing.runs.folder(run_id) / CANDIDATE, untaught)
    refused = published(publishing, run_id)
    assert (refused["state"], refused["failure"]["code"], refused["version"]) == ("failed", "candidate-worse", None)
    assert "accuracy" in refused["failure"]["detail"]
    assert champion.alias(CHAMPION) is None, "nobody had to be told that release 1 serves"
    assert repository() == before


def test_what_cannot_be_done_is_said_in_the_same_way_whoever_finds_out(publishing: Service) -> None:
    assert publishing.post("/v1/releases", {"run": "tr_" + "0" * 32}, status=404)["code"] == "run-not-found"
    queued = publishing.runs.accept(tiny_plan())
    publishing.runs.cancel(queued.id)
    assert publishing.post("/v1/releases", {"run": queued.id}, status=409)["code"] == "run-conflict"
    assert publishing.post("/v1/releases", {"runs": queued.id}, status=422)["code"] == "validation-failed"
    assert publishing.post("/v1/releases/7:promote", status=404)["code"] == "model-version-unavailable"
    assert publishing.post("/v1/releases/none:promote", status=422)["code"] == "validation-failed"
    assert publishing.post("/v1/aliases/champion:rollback", status=409)["code"] == "nothing-to-roll-back"
    for path in ("/v1/releases/7", "/v1/publications/pb_" + "0" * 32):
        assert publishing.http.get(path).status_code == 404
    comparison = publishing.get("/v1/releases:compare", left=1, right=1)
    assert (comparison["left"], comparison["differences"]) == (1, [])
    assert publishing.http.get("/v1/releases:compare", params={"left": 1, "right": 9}).status_code == 404
