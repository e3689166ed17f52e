"""The page while an analysis runs, and what it asks for: a real browser, a real gateway, and a worker played step by step."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.support.ui import Select

from shared.jobs import Options, Progress, Stage, Timings
from shared.queue import Lease
from shared.videos import Videos
from tests.browser import Page, opened
from tests.gateway.conftest import VIDEO, Gateway
from tests.gateway.results import result
from tests.gateway.test_windows import finished


@pytest.fixture
def page(driver: Any, gateway: Gateway) -> Iterator[Page]:
    with opened(driver, gateway.service.url) as page:
        yield page


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(VIDEO)
    return path


def chosen(page: Page, gateway: Gateway, clip: Path) -> Lease:
    """The analysis of a file that was chosen, as a worker gets it."""
    page.choose(clip)
    page.job_id()
    return gateway.claim()


def report(gateway: Gateway, lease: Lease, **progress: int) -> None:
    gateway.worker.report(lease, Progress.model_validate({"stage": Stage.ANALYSING, **progress}))


def ends(page: Page) -> dict[str, str]:
    """When each face's strip ends, in the words of its last piece."""
    rows = "[...document.querySelectorAll('#faces li')].map(row => [row.firstChild.textContent, row.lastChild.lastChild.title])"
    return {face: said.partition(" to ")[2].split()[0] for face, said in page.value(rows)}


def fill(page: Page, **values: str) -> None:
    page.one("#fold summary").click()
    for name, value in values.items():
        page.one(f"#options [name={name}]").send_keys(value)


# --- while it runs ---------------------------------------------------------------------------------------------------


def test_the_time_that_is_left_is_said_as_far_as_it_is_known(gateway: Gateway, page: Page, clip: Path) -> None:
    lease = chosen(page, gateway, clip)
    report(gateway, lease, frames_done=3, frames_total=400)
    page.until(lambda: page.text("#message") == "Looking at the faces: frame 3 of about 400.")
    report(gateway, lease, frames_done=30, frames_total=400, seconds_left=75)
    page.until(lambda: page.text("#message") == "Looking at the faces: frame 30 of about 400, about 1:15 left.")


def test_a_strip_per_face_grows_until_the_result_takes_its_place(gateway: Gateway, page: Page, clip: Path) -> None:
    lease = chosen(page, gateway, clip)
    job_id, videos, windows = lease.job.id, Videos(gateway.data), finished(6, 0, 3)
    videos.begin_windows(job_id, lease.attempt)
    page.until_state("running")
    assert not page.one("#live").is_displayed()
    videos.add_windows(job_id, lease.attempt, windows[:1])
    page.until(lambda: ends(page) == {"t1": "0.5"})
    videos.add_windows(job_id, lease.attempt, windows[1:4])
    page.until(lambda: ends(page) == {"t1": "1.0", "t3": "1.0"})
    videos.add_windows(job_id, lease.attempt, windows[4:])
    page.until(lambda: ends(page) == {"t1": "3.0", "t3": "1.5"})
    assert page.text("#live-end").split() == ["3.0", "s"]
    assert page.one("#live .timeline").get_dom_attribute("aria-label") == "Timeline of face t1 so far"
    videos.write_result(result(job_id, 6, 0, 3), lease.token)
    gateway.worker.succeed(lease, Timings(total=5))
    page.until_result()
    page.until(lambda: not page.one("#live").is_displayed())
    assert page.texts("article h2") == ["Face t1", "Face t2", "Face t3"]


# --- what is asked for -----------------------------------------------------------------------------------------------


def test_without_a_look_at_the_options_nothing_is_asked_for(gateway: Gateway, page: Page, clip: Path) -> None:
    assert not page.one("#options").is_displayed()
    assert chosen(page, gateway, clip).job.options == Options()


def test_what_the_fold_says_is_asked_for(gateway: Gateway, page: Page, clip: Path) -> None:
    fill(page, **{"from": "1.25", "to": "2.5", "face": "40"})
    Select(page.one("#options [name=enhance]")).select_by_value("never")
    page.one("#options .consent span").click()  # the words are the box's label
    page.one("#options .keep span").click()
    asked = {"start_ms": 1250, "end_ms": 2500, "min_face": 40, "enhance": "never", "training_consent": True, "keep_video": True}
    assert chosen(page, gateway, clip).job.options == Options.model_validate(asked)


@pytest.mark.parametrize(
    ("tick", "words", "option"),
    [("consent", "may be used to train later models", "training_consent"), ("keep", "for as long as the result", "keep_video")],
)
def test_a_tick_is_for_one_video_only(gateway: Gateway, page: Page, clip: Path, tick: str, words: str, option: str) -> None:
    fill(page)
    assert words in page.text(f"#options .{tick}")
    assert not page.one(f"#options [name={tick}]").is_selected()
    page.one(f"#options [name={tick}]").click()
    assert getattr(chosen(page, gateway, clip).job.options, option) is True
    assert not page.one(f"#options [name={tick}]").is_selected()
    page.open()
    assert getattr(chosen(page, gateway, clip).job.options, option) is False


@pytest.mark.parametrize("values", [{"from": "3", "to": "2"}, {"to": "0"}, {"face": "19"}, {"from": "-1"}])
def test_what_cannot_be_asked_for_is_not_sent(gateway: Gateway, page: Page, clip: Path, values: dict[str, str]) -> None:
    fill(page, **values)
    page.one("#fold summary").click()
    page.choose(clip)
    page.until(lambda: page.one("#options input:invalid").is_displayed())
    assert not page.one("#job").is_displayed()
    assert gateway.get("/v1/analyses")["analyses"] == []
    for name in values:
        page.one(f"#options [name={name}]").clear()
    assert chosen(page, gateway, clip.rename(clip.with_stem("again"))).job.options == Options()


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_while_it_runs(gateway: Gateway, page: Page, clip: Path, width: int, scheme: str) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    try:
        fill(page)
        lease = chosen(page, gateway, clip)
        Videos(gateway.data).add_windows(lease.job.id, lease.attempt, finished(9, 4))
        page.until(lambda: len(page.all("#faces li")) == 2)
        assert page.value("document.documentElement.scrollWidth") <= width
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
