"""Passwords in files: made once, each for its user, and a real Redis lets nobody in by another's."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from shared.redis_passwords import main, with_password
from shared.redis_users import USERS
from tests.conftest import HOST, free_port


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return {name: tmp_path / name for name in USERS}


def make(tmp_path: Path, files: dict[str, Path]) -> str:
    main([f"--acl={tmp_path / 'users.acl'}", *(f"{name}={file}" for name, file in files.items())])
    return (tmp_path / "users.acl").read_text()


@pytest.fixture
def port(redis_program: Path, tmp_path: Path, files: dict[str, Path]) -> Iterator[int]:
    make(tmp_path, files)
    port = free_port()
    settings = ["--bind", HOST, "--port", str(port), "--dir", str(tmp_path), "--save", "", "--aclfile", str(tmp_path / "users.acl")]
    with subprocess.Popen([redis_program, *settings], stdout=subprocess.DEVNULL) as server:
        try:
            while not opens(with_password(f"redis://health@{HOST}:{port}/0", files["health"])):
                assert server.poll() is None, "the users are not ones that this Redis knows"
                time.sleep(0.02)
            yield port
        finally:
            server.kill()


def opens(url: str) -> bool:
    with redis.Redis.from_url(url, retry=None) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def test_each_password_opens_for_its_user_and_for_nobody_else(port: int, files: dict[str, Path]) -> None:
    opened = {(user, of) for user in USERS for of, file in files.items() if opens(with_password(f"redis://{user}@{HOST}:{port}/0", file))}
    assert opened == {(user, user) for user in USERS}
    assert not opens(f"redis://{HOST}:{port}/0")


def test_passwords_are_made_once_and_what_users_may_do_is_written_again(tmp_path: Path, files: dict[str, Path]) -> None:
    first = make(tmp_path, files)
    passwords = {name: file.read_text() for name, file in files.items()}
    assert len(set(passwords.values())) == len(USERS)
    assert not [password for password in passwords.values() if password in first]
    (tmp_path / "users.acl").write_text("user default on")
    assert make(tmp_path, files) == first
    assert {name: file.read_text() for name, file in files.items()} == passwords


def test_every_user_has_its_file(tmp_path: Path, files: dict[str, Path]) -> None:
    del files["worker"]
    with pytest.raises(SystemExit):
        make(tmp_path, files)
    assert not list(tmp_path.iterdir())


def test_a_password_is_put_where_redis_looks_for_it(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a/b@c:d\n")
    assert with_password("redis://gateway@redis:6379/0", tmp_path / "password") == "redis://gateway:a%2Fb%40c%3Ad@redis:6379/0"
    assert with_password("redis://redis:6379/0", tmp_path / "password") == "redis://:a%2Fb%40c%3Ad@redis:6379/0"
    assert with_password("redis://gateway:old@redis:6379/0", tmp_path / "password") == "redis://gateway:a%2Fb%40c%3Ad@redis:6379/0"
    assert with_password("redis://redis:6379/0", None) == "redis://redis:6379/0"
