"""What the environment says to training, and how it is passed on."""

from pathlib import Path

import pytest

from training.settings import Settings


def test_the_environment_is_read_and_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "MIEN_RUNS": "/r",
        "MIEN_CROPS": "/c",
        "MIEN_FROZEN": "fer2013-val:ck/fold-1",
        "MIEN_SIGNING_KEY": "/k.pem",
    }.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.runs, settings.crops, settings.trusted_keys) == (Path("/r"), Path("/c"), None)
    assert settings.frozen == (Path("fer2013-val"), Path("ck/fold-1"))
    passed_on = settings.environment()
    assert passed_on["MIEN_FROZEN"] == "fer2013-val:ck/fold-1"
    assert "MIEN_TRUSTED_KEYS" not in passed_on
    for name in passed_on:
        monkeypatch.delenv(name, raising=False)
    assert Settings() != settings
    for name, value in passed_on.items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_arguments_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_RUNS", "/r")
    assert Settings(runs=Path("/mine")).runs == Path("/mine")
    assert Settings().frozen == ()
