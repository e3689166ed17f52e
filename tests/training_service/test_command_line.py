"""Commands that the service waits for."""

import asyncio
import time
from pathlib import Path

import pytest

from services.training import command_line
from services.training.command_line import CommandLine
from services.web.errors import DependencyUnavailable


def test_a_command_that_does_not_end_is_killed_and_told_as_the_model_server_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = tmp_path / "python"
    waits.write_text("#!/bin/sh\nexec sleep 60\n")
    waits.chmod(0o755)
    monkeypatch.setattr(command_line, "ENDS_WITHIN_S", 0.2)
    began = time.monotonic()
    with pytest.raises(DependencyUnavailable) as raised:
        asyncio.run(CommandLine(python=str(waits), environment={}).run("promote", "7"))
    assert raised.value.extra == {"dependency": "triton"}
    assert time.monotonic() - began < 30
