"""The wheel's tritonserver with the backend in Python: what it serves, what it survives, and how it ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from deploy.triton import server
from services.preprocess.judge.classifier import Classifier
from shared.errors import InferenceError, InferenceUnavailable
from shared.releases import Release, model_name
from tests.triton_server import StartTriton, Triton
from training.export import export
from training.model_server import ModelServer

CONTROL_HTTP = [
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/{model}/load"),
    ("POST", "/v2/repository/models/{model}/unload"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("POST", "/v2/systemsharedmemory/unregister"),
    ("GET", "/v2/cudasharedmemory/status"),
    ("GET", "/v2/trace/setting"),
    ("POST", "/v2/trace/setting"),
    ("GET", "/v2/logging"),
    ("POST", "/v2/logging"),
    ("GET", "/v2/models/{model}/config"),
    ("GET", "/v2/models/{model}/stats"),
    ("GET", "/v2/models/{model}"),
]
CLIENTS = 6
SHARED_WITHIN_S = 120.0
ENDS_WITHIN_S = 8.0
DEAD_MODEL_ENDS_WITHIN_S = 30.0
"""The server waits for a dead model for as long as for a slow one before it ends."""
STUCK_STUBS_END_WITHIN_S = 45
"""A stub that waits for its dead server in the middle of a call is ended by its own alarm."""


def faces(release: Release, count: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 9, release.size, release.size), dtype=np.uint8)


def executions(triton: Triton, model: str) -> tuple[int, int]:
    """Requests answered and batches run since the model was loaded."""
    stats = httpx.get(f"{triton.http}/v2/models/{model}/stats").json()["model_stats"][0]
    return int(stats["inference_stats"]["success"]["count"]), int(stats["execution_count"])


def gone(processes: list[psutil.Process], within_s: float) -> bool:
    _, left = psutil.wait_procs(processes, within_s)
    return not left


def test_requests_of_many_clients_share_batches_and_each_gets_its_own_answer(triton: Triton) -> None:
    release = triton.release()
    inputs = [faces(release, 1 + client % 3, seed=client) for client in range(CLIENTS)]
    with Classifier(url=triton.grpc) as classifier:
        alone = [classifier.encode(release, each).features for each in inputs]
    start = threading.Barrier(CLIENTS)

    def ask(client: int) -> list[np.ndarray]:
        with Classifier(url=triton.grpc) as classifier:
            start.wait()
            return [classifier.encode(release, inputs[client]).features for _ in range(10)]

    requests, batches, deadline = 0, 0, time.monotonic() + SHARED_WITHIN_S
    before = executions(triton, release.model("frames"))
    with ThreadPoolExecutor(CLIENTS) as pool:
        while batches == requests:  # on a busy machine they may come one by one for a while
            assert time.monotonic() < deadline, f"{requests} requests, each a batch of its own"
            for expected, answers in zip(alone, pool.map(ask, range(CLIENTS)), strict=True):
                for features in answers:
                    np.testing.assert_allclose(features, expected, atol=1e-4)
            requests, batches = (now - then for now, then in zip(executions(triton, release.model("frames")), before, strict=True))
    assert requests % (CLIENTS * 10) == 0


def test_loopback_only_unless_told_otherwise(triton: Triton) -> None:
    listening = [each for each in psutil.Process(triton.process.pid).net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    assert len(listening) == 3
    assert {each.laddr.ip.removeprefix("::ffff:") for each in listening} == {"127.0.0.1"}


def test_without_the_secret_nothing_but_inference_and_health(
    triton: Triton, start_triton: StartTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(server.CONTROL_VARIABLE, "of-this-run")
    with start_triton(triton.models) as asking:
        release, model = asking.release(), asking.release().model("clip")
        assert "of-this-run" not in asking.log.read_text()
        assert not any("of-this-run" in str(stub.environ()) for stub in asking.stubs())
        for method, path in CONTROL_HTTP:
            assert httpx.request(method, f"{asking.http}{path.format(model=model)}", json={}).status_code == httpx.codes.FORBIDDEN, path
        for secret in ("", "wrong"):
            with ModelServer(asking.http, secret=secret) as stranger, pytest.raises(InferenceError, match="403"):
                stranger.unload(1)
        with InferenceServerClient(asking.grpc) as client:
            for call in (client.get_model_repository_index, client.get_log_settings, lambda: client.unload_model(model)):
                with pytest.raises(InferenceServerException, match="restricted"):
                    call()
        with Classifier(url=asking.grpc) as classifier:
            assert classifier.ready(release)
            assert len(classifier.encode(release, faces(release, 2)).features) == 2
        with ModelServer(asking.http, secret="of-this-run") as publisher:
            assert publisher.loaded() == {1}
            publisher.unload(1)
            publisher.load(1)
            assert publisher.is_ready(1)


def test_one_broken_release_does_not_keep_the_others_from_loading(random_release: Path, tmp_path: Path, start_triton: StartTriton) -> None:
    models = tmp_path / "models"
    export(random_release, models)
    broken = models / "mien_000002"
    for graph in ("frames", "clip"):
        (broken / graph / "1").mkdir(parents=True)
        (broken / graph / "config.pbtxt").write_bytes((models / "mien_000001" / graph / "config.pbtxt").read_bytes())
        (broken / graph / "1" / "model.pt").write_bytes(b"not a graph")
        (models / model_name(2, graph)).symlink_to(Path(broken.name) / graph)
    (broken / "release.json").write_bytes((models / "mien_000001" / "release.json").read_bytes())

    with start_triton(models) as triton, Classifier(url=triton.grpc) as classifier:
        release = triton.release()
        assert classifier.ready(release)
        assert not triton.is_ready(model_name(2, "frames"))
        assert "mien_000001'" not in triton.log.read_text(), "a release's own folder is not a model"
        assert classifier.encode(release, faces(release, 3)).features.shape == (3, release.feature_size)

        stubs = triton.stubs()
        assert stubs
        triton.process.send_signal(signal.SIGTERM)
        assert triton.process.wait(ENDS_WITHIN_S) == 0
        assert gone(stubs, within_s=1), "a stub outlived its server"
        assert not list(server.SHARED_MEMORY.glob(f"mien-{triton.process.pid}-*"))


def test_a_server_killed_in_the_middle_of_a_call_is_noticed_at_once(
    random_release: Path, tmp_path: Path, start_triton: StartTriton
) -> None:
    export(random_release, tmp_path / "models")
    with start_triton(tmp_path / "models") as triton, Classifier(url=triton.grpc) as classifier:
        release = triton.release()
        many = faces(release, 2000)
        stubs = triton.stubs()
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(classifier.encode, release, many)
            time.sleep(0.5)
            assert not call.done(), "the call must still be running"
            triton.process.kill()
            triton.process.wait()
            killed = time.monotonic()
            with pytest.raises(InferenceUnavailable):
                call.result(timeout=10)
            assert time.monotonic() - killed < 3
        assert not classifier.ready(release)
        assert gone(stubs, within_s=STUCK_STUBS_END_WITHIN_S), "a stub outlived its server"
        server.remove_stale_memory()
        assert not list(server.SHARED_MEMORY.glob(f"mien-{triton.process.pid}-*"))


def test_a_model_whose_process_dies_takes_the_server_along_for_a_new_one(
    random_release: Path, tmp_path: Path, start_triton: StartTriton
) -> None:
    export(random_release, tmp_path / "models")
    with start_triton(tmp_path / "models") as triton:
        stub = next(process for process in triton.stubs() if "triton_python_backend_stub" in process.name())
        stub.kill()
        triton.process.wait(DEAD_MODEL_ENDS_WITHIN_S)


def test_unloading_a_model_is_no_reason_to_end(random_release: Path, tmp_path: Path, start_triton: StartTriton) -> None:
    export(random_release, tmp_path / "models")
    with start_triton(tmp_path / "models") as triton:
        clip, frames = triton.release().model("clip"), triton.release().model("frames")
        before = len(triton.stubs())
        httpx.post(f"{triton.http}/v2/repository/models/{clip}/unload", timeout=60).raise_for_status()
        deadline = time.monotonic() + ENDS_WITHIN_S
        while len(triton.stubs()) == before:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with pytest.raises(subprocess.TimeoutExpired):
            triton.process.wait(1)
        assert triton.is_ready(frames)


def test_only_the_memory_of_dead_servers_is_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    dead, alive, other = (tmp_path / name for name in (f"mien-{ended.pid}-a-b", f"mien-{os.getpid()}-a-b", "somebody-else"))
    for region in (dead, alive, other):
        region.touch()
    server.remove_stale_memory(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([alive, other])


def test_nothing_is_written_into_the_wheel_and_assembling_twice_gives_the_same(tmp_path: Path) -> None:
    try:
        wheel = server.find_wheel()
    except server.TritonMissing as error:
        pytest.skip(str(error))
    before = sorted(wheel.root.rglob("*"))
    first = server.assemble_backends(wheel, tmp_path)
    assert server.assemble_backends(wheel, tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
    assert sorted(wheel.root.rglob("*")) == before
    assert (first / "python" / "triton_python_backend_stub").stat().st_mode & 0o111
    assert (first / "pytorch" / "model.py").read_bytes() == server.PYTORCH_BACKEND.read_bytes()


def test_without_the_wheel_the_command_says_what_to_install(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-m", "deploy.triton", "--models", str(tmp_path)]
    outcome = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={"PYTHONPATH": pydantic_alone(tmp_path), "HOME": str(tmp_path)}
    )
    assert outcome.returncode == 1
    assert "nvidia-pytriton" in outcome.stderr


def pydantic_alone(folder: Path) -> str:
    """A PYTHONPATH with this project and pydantic, but without Triton's wheel."""
    import annotated_types
    import pydantic
    import pydantic_core
    import typing_extensions
    import typing_inspection

    site = folder / "site"
    site.mkdir()
    for module in (annotated_types, pydantic, pydantic_core, typing_inspection):
        (site / module.__name__).symlink_to(Path(module.__file__).parent)
    (site / "typing_extensions.py").symlink_to(typing_extensions.__file__)
    return f"{Path.cwd()}:{site}"
