"""The command that makes, lists, revokes and rotates API keys."""

import json
import stat
from pathlib import Path

import pytest

from services.web import keys
from shared.keys import KeyFolder, presented


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def run(folder: Path, command: str, *arguments: str) -> int:
    return keys.main([command, "--folder", str(folder), *arguments])


def test_a_key_is_shown_once_and_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "create", "--tenant", "acme", "--role", "client", "--role", "ops", "--purpose", "research") == 0
    said = capsys.readouterr()
    parts = presented(said.out.strip())
    assert parts is not None
    assert parts.secret not in said.err
    assert run(folder, "list") == 0
    listed = capsys.readouterr().out
    assert parts.secret not in listed
    (key,) = map(json.loads, listed.splitlines())
    assert (key["id"], key["tenant"], key["roles"], key["purpose"]) == (parts.key_id, "acme", ["client", "ops"], "research")
    assert "sha256" not in key


def test_keys_are_revoked_and_rotated_by_their_id(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run(folder, "create", "--role", "publisher")
    (old,) = KeyFolder(folder).all()
    assert run(folder, "rotate", old.id, "--overlap-hours", "1", "--out", str(tmp_path / "key")) == 0
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    first, second = KeyFolder(folder).all()
    assert (first.id, second.roles, first.expires_ms is None) == (old.id, old.roles, False)
    assert run(folder, "revoke", second.id) == 0
    assert KeyFolder(folder).get(second.id).revoked_ms is not None
    assert second.sha256 not in capsys.readouterr().err


def test_a_first_key_is_made_only_where_there_is_none(folder: Path) -> None:
    for _ in range(2):
        assert run(folder, "create", "--role", "ops", "--unless-any") == 0
    assert len(KeyFolder(folder).all()) == 1


def test_what_cannot_be_done_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("create", "--role", "client", "--tenant", "A B"), ("revoke", "0" * 16), ("list",)):
        assert run(folder, *arguments) == 1
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n"), said.err[:7]) == ("", 1, "error: ")
    with pytest.raises(SystemExit):
        run(folder, "create", "--role", "emperor")


def test_a_client_whose_purpose_is_not_lawful_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, "create", "--role", "client", "--purpose", "workplace")
    assert "may not post videos" in capsys.readouterr().err
    run(folder, "create", "--role", "client", "--purpose", "workplace", "--basis", "medical_or_safety")
    assert "may not post videos" not in capsys.readouterr().err
