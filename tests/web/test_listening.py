"""Where a service listens, and what that takes; real processes, of both services."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from services.web.guard import is_loopback
from shared.keys import KeyFolder, Role
from tests.conftest import free_port
from tests.gateway.conftest import soon
from tests.web.callers import bearer

Started = Callable[..., "subprocess.Popen[str]"]
HOSTS = {"gateway": "MIEN_HOST", "training": "MIEN_TRAINING_HOST"}
PORTS = {"gateway": "MIEN_PORT", "training": "MIEN_TRAINING_PORT"}


@pytest.fixture(params=sorted(HOSTS))
def service(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def environment(service: str, home: Path, **settings: str) -> dict[str, str]:
    folders = {name: str(home / name) for name in ("data", "runs", "crops", "models")}
    own = {f"MIEN_{name.upper()}": folder for name, folder in folders.items()}
    return {"PATH": os.environ["PATH"], "MIEN_REDIS_URL": "redis://127.0.0.1:1", **own, **settings}


def refusal(service: str, home: Path, host: str, **settings: str) -> dict[str, str]:
    """The one line that a service says which does not start."""
    ended = subprocess.run(
        [sys.executable, "-m", f"services.{service}"],
        env=environment(service, home, **{HOSTS[service]: host}, **settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (1, "")
    (line,) = map(json.loads, ended.stdout.splitlines())
    assert line["event"] == "does not start"
    found: dict[str, str] = line
    return found


def test_a_service_that_others_could_reach_does_not_start_without_a_key(service: str, tmp_path: Path) -> None:
    line = refusal(service, tmp_path, "0.0.0.0")  # noqa: S104
    assert line["code"] == "api-key-required"
    assert "services.web.keys create" in line["reason"]
    folder = tmp_path / "keys"
    dead = KeyFolder(folder).create(tenant="acme", roles=[Role.OPS], lives_s=0)
    assert refusal(service, tmp_path, "::", MIEN_API_KEYS=str(folder))["code"] == "api-key-required", f"{dead.record.id} opens nothing"


def test_a_folder_of_keys_that_is_not_there_is_not_an_open_door(service: str, tmp_path: Path) -> None:
    assert refusal(service, tmp_path, "127.0.0.1", MIEN_API_KEYS=str(tmp_path / "nowhere"))["code"] == "storage-error"


def test_with_a_key_it_listens_everywhere_and_asks_everybody_for_it(service: str, tmp_path: Path) -> None:
    key = KeyFolder(tmp_path / "keys").create(tenant="acme", roles=[Role.OPS])
    port = free_port()
    settings = {HOSTS[service]: "0.0.0.0", PORTS[service]: str(port), "MIEN_API_KEYS": str(tmp_path / "keys")}  # noqa: S104
    command = [sys.executable, "-m", f"services.{service}"]
    with (
        subprocess.Popen(command, env=environment(service, tmp_path, **settings), stdout=subprocess.PIPE, text=True) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
    ):
        try:
            assert soon(lambda: answers(http), within_s=30)
            assert http.get("/metrics").status_code == 401, "though this is the same machine"
            assert http.get("/metrics", headers=bearer(key.written)).status_code == 200
        finally:
            process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=30)[0]
    assert key.written[-43:] not in output
    assert key.record.sha256 not in output


def answers(http: httpx.Client) -> bool:
    try:
        return http.get("/healthz").status_code == 200
    except httpx.ConnectError:
        return False


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "gateway", "localhost.example"])  # noqa: S104
def test_anything_else_is_not(host: str) -> None:
    assert not is_loopback(host)
