"""The door to Triton, as deploy/compose/door.cfg has HAProxy keep it: inference and health pass, whatever changes the server does not."""

import asyncio
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from services.gateway.triton import Triton as GatewaysTriton
from services.preprocess.judge.classifier import Classifier
from shared.errors import InferenceUnavailable
from shared.releases import Release
from tests.conftest import free_port, missing
from tests.triton_server import Triton

CONFIG: Final = Path(__file__).parents[2] / "deploy" / "compose" / "door.cfg"
STARTS_WITHIN_S: Final = 30.0
MODEL: Final = "mien_000001_frames"
SECRETS: Final = {"triton-admin": "secret", "triton-grpc-protocol-admin": "secret", "authorization": "Bearer secret"}
"""No secret opens the door, whichever Triton asks for."""

REFUSED_HTTP: Final = [
    ("POST", "/v2/repository/index"),
    ("POST", f"/v2/repository/models/{MODEL}/load"),
    ("POST", f"/v2/repository/models/{MODEL}/unload"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("POST", "/v2/systemsharedmemory/region/x/register"),
    ("POST", "/v2/systemsharedmemory/unregister"),
    ("GET", "/v2/cudasharedmemory/status"),
    ("POST", "/v2/cudasharedmemory/region/x/register"),
    ("GET", "/v2/trace/setting"),
    ("POST", "/v2/trace/setting"),
    ("POST", f"/v2/models/{MODEL}/trace/setting"),
    ("GET", "/v2/logging"),
    ("POST", "/v2/logging"),
    ("GET", f"/v2/models/{MODEL}/config"),
    ("GET", f"/v2/models/{MODEL}/stats"),
    ("GET", "/v2/models/stats"),
    ("GET", f"/v2/models/{MODEL}"),
    ("GET", "/v2"),
    ("GET", "/metrics"),
    ("POST", f"/v2/models/{MODEL}/infer"),  # nobody asks this way: faces travel by gRPC
    ("POST", f"/v2/models/{MODEL}/generate"),
]

AROUND_HTTP: Final = [
    ("POST", "/v2/health/live"),
    ("GET", "/v2/health/live/../../repository/index"),
    ("GET", "/v2/health/%2e%2e/repository/index"),
    ("GET", f"/v2/models/{MODEL}/ready/../config"),
    ("GET", f"/v2/models/{MODEL}/versions/1/ready"),
    ("GET", "//v2/repository/index"),
    ("GET", "/V2/HEALTH/LIVE"),
    ("GET", "/v2/health/live/"),
    ("GET", "/v2/models/other/ready"),
]
"""Ways around a list of paths that people have found before."""

CALLS: Final[dict[str, Callable[[InferenceServerClient], Any]]] = {
    "index": lambda client: client.get_model_repository_index(headers=SECRETS),
    "load": lambda client: client.load_model(MODEL, headers=SECRETS),
    "unload": lambda client: client.unload_model(MODEL, headers=SECRETS),
    "model config": lambda client: client.get_model_config(MODEL, headers=SECRETS),
    "model metadata": lambda client: client.get_model_metadata(MODEL, headers=SECRETS),
    "server metadata": lambda client: client.get_server_metadata(headers=SECRETS),
    "statistics": lambda client: client.get_inference_statistics(MODEL, headers=SECRETS),
    "log settings": lambda client: client.get_log_settings(headers=SECRETS),
    "logging": lambda client: client.update_log_settings({"log_verbose_level": 0}, headers=SECRETS),
    "trace settings": lambda client: client.get_trace_settings(headers=SECRETS),
    "tracing": lambda client: client.update_trace_settings(settings={"trace_level": "OFF"}, headers=SECRETS),
    "shared memory": lambda client: client.get_system_shared_memory_status(headers=SECRETS),
    "mapping memory": lambda client: client.register_system_shared_memory("x", "/x", 8, headers=SECRETS),
    "unmapping memory": lambda client: client.unregister_system_shared_memory(headers=SECRETS),
    "a GPU's memory": lambda client: client.get_cuda_shared_memory_status(headers=SECRETS),
    "unmapping a GPU's memory": lambda client: client.unregister_cuda_shared_memory(headers=SECRETS),
}
"""All that Triton's client can ask for beside inference and health."""


@dataclass(frozen=True, kw_only=True)
class Door:
    """A running HAProxy."""

    http: str
    """http://host:port"""
    grpc: str
    """host:port"""
    metrics: str
    """http://host:port"""
    process: "subprocess.Popen[bytes]"


OpenDoor = Callable[..., AbstractContextManager[Door]]


@pytest.fixture(scope="module")
def open_door() -> OpenDoor:
    """Starts a HAProxy with the committed configuration, between free ports and a server's addresses."""
    program = shutil.which("haproxy") or missing("no haproxy: install Debian's haproxy")

    @contextmanager
    def opened(*, http: str, grpc: str, metrics: str) -> Iterator[Door]:
        ports = {name: f"127.0.0.1:{free_port()}" for name in ("DOOR_HTTP", "DOOR_GRPC", "DOOR_METRICS", "DOOR_ALIVE")}
        environment = {**os.environ, **ports, "TRITON_HTTP": http, "TRITON_GRPC": grpc, "TRITON_METRICS": metrics}
        with subprocess.Popen([program, "-db", "-f", str(CONFIG)], env=environment) as process:
            try:
                wait_until_open(f"http://{ports['DOOR_ALIVE']}/alive", process)
                urls = {name: f"http://{ports[f'DOOR_{name.upper()}']}" for name in ("http", "metrics")}
                yield Door(**urls, grpc=ports["DOOR_GRPC"], process=process)
            finally:
                process.kill()

    return opened


def address(url: str) -> str:
    return url.removeprefix("http://")


def wait_until_open(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "HAProxy does not start"
        try:
            if httpx.get(url).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    pytest.fail("the door does not open")


@pytest.fixture(scope="module")
def door(open_door: OpenDoor, triton: Triton) -> Iterator[Door]:
    with open_door(http=address(triton.http), grpc=triton.grpc, metrics=address(triton.metrics)) as opened:
        yield opened


@pytest.fixture(scope="module")
def release(triton: Triton) -> Release:
    return triton.release()


def faces(release: Release, count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 9, release.size, release.size), dtype=np.uint8)


def raw(url: str, method: str, path: str) -> httpx.Response:
    """A request for a path as it is written: a client would tidy it up."""
    address = httpx.URL(url).copy_with(raw_path=path.encode())
    return httpx.request(method, address, headers=SECRETS, content=b"{}" if method == "POST" else None)


# --- what passes ------------------------------------------------------------------------------------------------------


def test_the_worker_is_served_as_without_a_door(door: Door, triton: Triton, release: Release) -> None:
    many = faces(release, 40)
    with Classifier(url=triton.grpc) as direct, Classifier(url=door.grpc) as through:
        assert through.ready(release)
        assert not through.ready(release.model_copy(update={"version": 999}))
        expected, encoded = direct.encode(release, many), through.encode(release, many)
        np.testing.assert_allclose(encoded.features, expected.features, atol=1e-4)
        judged = through.judge(release, encoded.features[None], np.ones((1, len(many)), np.float32))
    assert judged.scores.sum() == pytest.approx(1)


def test_a_track_of_an_hour_fits_through(door: Door, release: Release) -> None:
    frames = 15 * 2**20 // (4 * release.feature_size)
    with Classifier(url=door.grpc) as classifier:
        judged = classifier.judge(release, np.ones((1, frames, release.feature_size), np.float32), np.ones((1, frames), np.float32))
    assert judged.frame_weights.shape == (1, frames)


def test_the_gateway_learns_which_models_are_ready(door: Door) -> None:
    async def unready() -> list[list[str]]:
        async with GatewaysTriton.at(door.http) as triton:
            return [await triton.unready(version) for version in (1, 2)]

    assert asyncio.run(unready()) == [[], ["mien_000002_frames", "mien_000002_clip"]]


def test_health_passes(door: Door) -> None:
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert raw(door.http, "GET", path).status_code == httpx.codes.OK
    with InferenceServerClient(door.grpc) as client:
        assert client.is_server_live()
        assert client.is_server_ready()


def test_figures_pass_and_nothing_beside_them(door: Door) -> None:
    assert "nv_inference_count" in raw(door.metrics, "GET", "/metrics").text
    for method, path in [("POST", "/metrics"), ("GET", "/"), ("GET", "/metrics/"), *REFUSED_HTTP]:
        if (method, path) != ("GET", "/metrics"):
            assert raw(door.metrics, method, path).status_code == httpx.codes.FORBIDDEN


# --- what does not ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), [*REFUSED_HTTP, *AROUND_HTTP])
def test_control_is_refused_over_http(door: Door, method: str, path: str) -> None:
    assert raw(door.http, method, path).status_code == httpx.codes.FORBIDDEN


@pytest.mark.parametrize("what", CALLS)
def test_control_is_refused_over_grpc(door: Door, what: str) -> None:
    with InferenceServerClient(door.grpc) as client, pytest.raises(InferenceServerException) as refused:
        CALLS[what](client)
    assert refused.value.status() == "StatusCode.PERMISSION_DENIED"


def test_inference_in_a_stream_is_refused(door: Door) -> None:
    """It is another call, which nobody needs."""
    with grpc.insecure_channel(door.grpc) as channel, pytest.raises(grpc.RpcError) as refused:
        next(channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(iter([b""]), timeout=30))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_memory_that_others_share_with_triton_cannot_be_named(door: Door, release: Release) -> None:
    tensor = InferInput("faces", [1, 9, release.size, release.size], "UINT8")
    tensor.set_shared_memory("x", 9 * release.size**2)
    with InferenceServerClient(door.grpc) as client, pytest.raises(InferenceServerException):
        client.infer(release.model("frames"), [tensor])


def test_no_upgrade_makes_a_tunnel(door: Door) -> None:
    for upgrade in (
        {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": ""},
        {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="},
    ):
        assert httpx.get(f"{door.http}/v2/health/live", headers=upgrade).status_code == httpx.codes.FORBIDDEN


UNLOADS: Final = f"POST /v2/repository/models/{MODEL}/unload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (UNLOADS.replace(" /v2", " http://x/v2"), 403),
        (f"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: {len(UNLOADS)}\r\n\r\n{UNLOADS}", 400),
        (
            "GET /v2/health/live HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            f"Content-Length: {len(UNLOADS) + 5}\r\n\r\n0\r\n\r\n{UNLOADS}",
            200,
        ),
    ],
    ids=["an absolute address", "two lengths", "a length and chunks"],
)
def test_no_way_of_writing_a_request_hides_another(door: Door, triton: Triton, sent: str, status: int) -> None:
    host, _, port = address(door.http).rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(sent.encode())
        connection.shutdown(socket.SHUT_WR)
        answers = connection.makefile("rb").read()
    first, *others = map(int, re.findall(rb"HTTP/1.1 (\d{3}) ", answers))
    assert first == status
    assert set(others) <= {403}
    assert triton.is_ready(MODEL)


@pytest.mark.parametrize("path", ["/inference.GRPCInferenceService/RepositoryIndex", "/v2/repository/index"])
def test_speaking_http_2_where_http_1_is_expected_opens_nothing(door: Door, path: str) -> None:
    with grpc.insecure_channel(address(door.http)) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(path)(b"", timeout=30)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_what_was_refused_has_changed_nothing(door: Door, triton: Triton) -> None:
    test_control_is_refused_over_http(door, "POST", f"/v2/repository/models/{MODEL}/unload")
    assert triton.is_ready(MODEL)


# --- when there is nobody behind it -----------------------------------------------------------------------------------


def test_without_triton_the_worker_hears_that_it_is_away(open_door: OpenDoor, release: Release) -> None:
    nobody = {"http": f"127.0.0.1:{free_port()}", "grpc": f"127.0.0.1:{free_port()}", "metrics": f"127.0.0.1:{free_port()}"}
    with open_door(**nobody) as door, Classifier(url=door.grpc) as classifier:
        assert not classifier.ready(release)
        with pytest.raises(InferenceUnavailable):
            classifier.encode(release, faces(release, 1))
