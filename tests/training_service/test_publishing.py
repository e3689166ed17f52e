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


def first_release(home: Path) -> dict[str, str]:
    """Release 1, which knows painted faces, and what a service there needs to publish a second one."""
    write_painted_store(home / "crops" / "frozen", 140, seed=3)
    keys = {"MIEN_SIGNING_KEY": home / "private.pem", "MIEN_TRUSTED_KEYS": home / "trusted.pem"}
    keys["MIEN_SIGNING_KEY"].write_bytes(SIGNER.pem())
    keys["MIEN_TRUSTED_KEYS"].write_bytes(SIGNER.trusted.pem())
    export(write_signed(home / "first", contestant(1)), home / "models", signer=SIGNER)
    return {"MIEN_FROZEN": "frozen", **{name: str(path) for name, path in keys.items()}}


@pytest.fixture
def publishing(tmp_path: Path, start_triton: StartTriton, redis_url: str) -> Iterator[Service]:
    """A service that can publish; release 1 is served."""
    settings = {**first_release(tmp_path), "MIEN_REDIS_URL": redis_url}
    with start_triton(tmp_path / "models") as triton, running(tmp_path, **settings, MIEN_TRITON_HTTP=triton.http) as service:
        yield service


@pytest.fixture
def refusing(tmp_path: Path, redis_url: str) -> Iterator[Service]:
    """Nobody serves: what is refused is refused before Triton is asked."""
    with running(tmp_path, **first_release(tmp_path), MIEN_REDIS_URL=redis_url, MIEN_TRITON_HTTP="http://127.0.0.1:9") as service:
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


def test_a_worse_candidate_changes_nothing_and_says_why(refusing: Service, champion: WorkerQueue) -> None:
    def repository() -> list[str]:
        return sorted(path.name for path in (refusing.home / "models").iterdir() if path.name != ".lock")

    before = repository()
    run_id = finished_run(refusing)
    untaught = contestant(refusing.runs.get(run_id).version)
    untaught.network.clip.output.weight.data.zero_()
    write_signed(refusing.runs.folder(run_id) / CANDIDATE, untaught)
    refused = published(refusing, run_id)
    assert (refused["state"], refused["failure"]["code"], refused["version"]) == ("failed", "candidate-worse", None)
    assert "accuracy" in refused["failure"]["detail"]
    assert champion.alias(CHAMPION) is None, "nobody had to be told that release 1 serves"
    assert repository() == before


def test_what_cannot_be_done_is_said_in_the_same_way_whoever_finds_out(refusing: Service) -> None:
    assert refusing.post("/v1/releases", {"run": "tr_" + "0" * 32}, status=404)["code"] == "run-not-found"
    queued = refusing.runs.accept(tiny_plan())
    refusing.runs.cancel(queued.id)
    assert refusing.post("/v1/releases", {"run": queued.id}, status=409)["code"] == "run-conflict"
    assert refusing.post("/v1/releases", {"runs": queued.id}, status=422)["code"] == "validation-failed"
    assert refusing.post("/v1/releases/7:promote", status=404)["code"] == "model-version-unavailable"
    assert refusing.post("/v1/releases/none:promote", status=422)["code"] == "validation-failed"
    assert refusing.post("/v1/aliases/champion:rollback", status=409)["code"] == "nothing-to-roll-back"
    for path in ("/v1/releases/7", "/v1/publications/pb_" + "0" * 32):
        assert refusing.http.get(path).status_code == 404
    comparison = refusing.get("/v1/releases:compare", left=1, right=1)
    assert (comparison["left"], comparison["differences"]) == (1, [])
    assert refusing.http.get("/v1/releases:compare", params={"left": 1, "right": 9}).status_code == 404


def test_a_publication_is_canceled_until_its_release_gets_its_name(tmp_path: Path) -> None:
    service = Service(tmp_path)
    measured, named = (service.publications.accept("tr_" + "0" * 32, promote=True).id for _ in range(2))
    try:
        with service.publications.hold(measured), service.publications.hold(named):
            for publication in (measured, named):
                service.publications.begin(publication)
            service.publications.commit(named)
            service.start()
            cancel = service.get(f"/v1/publications/{measured}")["links"]["cancel"]
            assert cancel == f"/v1/publications/{measured}:cancel"
            assert service.post(cancel)["cancel_requested"]
            service.publications.hand_back(measured)
            assert service.get(f"/v1/publications/{measured}")["state"] == "canceled"
            assert service.get(f"/v1/publications/{named}")["links"]["cancel"] is None
            over = service.post(f"/v1/publications/{named}:cancel", status=409)
            assert (over["code"], over["state"]) == ("publication-over", "running")
            assert service.post(f"/v1/publications/pb_{'0' * 32}:cancel", status=404)["code"] == "publication-not-found"
    finally:
        service.clean_up()
