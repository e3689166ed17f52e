"""The page of a server that asks for an API key: a real browser gives it one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.web.guard import Guard
from tests.browser import Page, opened
from tests.gateway.conftest import VIDEO, Gateway, running
from tests.gateway.results import result
from tests.gateway.test_access import LIMITS
from tests.web.callers import Callers, callers


@pytest.fixture
def asked(tmp_path: Path) -> Callers:
    return callers(tmp_path / "keys")


@pytest.fixture
def gateway(redis_url: str, asked: Callers, tmp_path: Path) -> Iterator[Gateway]:
    with running(redis_url=redis_url, data=tmp_path / "data", limits=LIMITS, guard=Guard(asked.keys)) as gateway:
        yield gateway


@pytest.fixture
def page(driver: Any, gateway: Gateway) -> Iterator[Page]:
    with opened(driver, gateway.service.url) as page:
        yield page


def give(page: Page, headers: dict[str, str]) -> None:
    page.until(lambda: page.one("#key").is_displayed())
    page.one("#key input").send_keys(headers["Authorization"].removeprefix("Bearer "))
    page.one("#key button").click()


def test_a_key_is_asked_for_once_and_kept_in_this_tab_alone(gateway: Gateway, page: Page, asked: Callers, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(VIDEO)
    assert not page.one("#key").is_displayed()
    page.choose(clip)
    give(page, asked.headers["revoked"])
    page.until(lambda: page.one("#key").is_displayed() and "does not know this key" in page.text("#key-hint"))
    give(page, asked.headers["client"])
    job_id = page.job_id()
    assert not page.one("#key").is_displayed()
    gateway.succeed(result(job_id))
    page.until_result()
    page.open(f"#{job_id}")
    page.until_result()
    assert not page.one("#key").is_displayed()
    assert page.value("localStorage.length + document.cookie.length") == 0
    assert asked.headers["client"]["Authorization"].partition(" ")[2] not in page.value("document.documentElement.outerHTML")


def test_what_a_key_may_not_see_is_said_and_no_other_key_is_asked_for(page: Page, asked: Callers) -> None:
    page.open(f"#an_{'0' * 32}")
    give(page, asked.headers["client of another tenant"])
    page.until(lambda: page.one("#problem").is_displayed())
    assert "job-not-found" in page.text("#problem")
    assert not page.one("#key").is_displayed()
