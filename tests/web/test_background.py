"""Work beside the requests: it begins anew when it fails, and ends when it is told to, even if it did not hear at first."""

import asyncio

import pytest

from services.web import background as module
from services.web.background import background

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.01)
    monkeypatch.setattr(module, "HEEDS_WITHIN_S", 0.05)


async def test_it_runs_until_the_block_ends() -> None:
    heard = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            heard.set()

    async with background(work):
        await asyncio.sleep(0.01)
    assert heard.is_set()


async def test_what_fails_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    third = asyncio.Event()
    runs: list[int] = []

    async def work() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise ValueError
        third.set()
        await asyncio.Event().wait()

    async with background(work):
        await asyncio.wait_for(third.wait(), 20)
    assert [record.message for record in caplog.records] == ["begins anew"] * 2


async def test_who_swallows_a_cancellation_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    lost = 0

    async def work() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
                if lost == 3:
                    raise

    async with background(work):
        await asyncio.sleep(0.01)
    assert lost == 3
    assert [record.message for record in caplog.records] == ["canceled again"] * 2
