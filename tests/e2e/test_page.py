"""The page as a person meets it: a real browser, the whole stack, and nothing asked of the page but what can be seen."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from shared.results import Result, Track, Window
from shared.videos import Videos
from tests.browser import Page, opened


@pytest.fixture
def page(driver, mien) -> Iterator[Page]:
    with opened(driver, mien.stack.url) as page:
        yield page


@pytest.fixture(scope="session")
def clip(portrait: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The portrait in a file whose name would be markup if it were taken for it."""
    path = tmp_path_factory.mktemp("page") / "<img src=x onerror=alert(1)>.mp4"
    shutil.copyfile(portrait, path)
    return path


def test_a_video_is_sent_analysed_and_shown(mien, page, clip):
    page.choose(clip)
    page.until_result()
    result = mien.result(page.job_id())
    (track,) = result["tracks"]
    assert page.text("#state") == "succeeded"
    assert page.text("#name") == clip.name, "shown as text"
    assert page.texts("article h2") == ["Face t1"]
    assert page.text(".verdict").startswith(track["verdict"]["label"])
    assert [line.split("\n")[0] for line in page.texts(".scores li")] == list(track["verdict"]["scores"])
    assert [line.split("\n")[0] for line in page.texts(".regions li")] == ["face", "eyes", "mouth"]
    assert len(page.all(".frames button")) == len(track["explanation"]["frames"])
    for fact in (
        "2.0 s, 640 × 360, h264, 50 frames",
        "16 looked at, 16 with a face, 16 used",
        "16 found, 16 used",
        "none",
        f"release {mien.release}",
    ):
        assert fact in page.text("#facts")
    assert "finding faces" in page.text("#facts")
    card = page.one("#facts a")
    assert card.text == "model card"
    assert card.get_dom_attribute("href") == f"/v1/models/{mien.release}/card"
    assert card.get_dom_attribute("target") == "_blank"
    assert page.text("#disclosure") == result["disclosure"]


def test_timeline_and_deciding_frames_lead_to_their_place_in_the_video(mien, page, clip):
    page.choose(clip)
    page.until_result()
    (track,) = mien.result(page.job_id())["tracks"]
    page.until(lambda: page.value("document.querySelector('video').readyState") >= 2)

    segment = page.all(".timeline button")[-1]
    segment.send_keys(Keys.ENTER)
    words = segment.get_dom_attribute("title")
    assert words.split(":")[1].split()[0] == segment.text
    start_s = float(words.split()[0])
    page.until(lambda: page.value("document.querySelector('video').currentTime") == pytest.approx(start_s, abs=0.1))

    page.all(".frames button")[0].click()
    decided = track["explanation"]["frames"][0]
    page.until(lambda: page.value("document.querySelector('video').currentTime") == pytest.approx(decided["pts_ms"] / 1000, abs=0.01))
    page.until(lambda: any(box.is_displayed() for box in page.all("#boxes div")))
    box = next(box for box in page.all("#boxes div") if box.is_displayed())
    stage = page.one("#stage").rect
    left, top, right, bottom = decided["box"]
    assert box.rect["x"] - stage["x"] == pytest.approx(left * stage["width"], abs=3)
    assert box.rect["y"] - stage["y"] == pytest.approx(top * stage["height"], abs=3)
    assert box.rect["width"] == pytest.approx((right - left) * stage["width"], abs=3)
    assert box.rect["height"] == pytest.approx((bottom - top) * stage["height"], abs=3)
    page.until(lambda: painted(page))


def painted(page: Page) -> bool:
    """Whether the thumbnails hold a picture of more than one colour."""
    colours = "[...document.querySelectorAll('canvas')].map(c => new Set(c.getContext('2d').getImageData(0, 0, 160, 160).data).size)"
    return all(count > 10 for count in page.value(colours))


def test_a_text_file_is_explained_as_a_problem(page, tmp_path):
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear sir or madam,\n" * 500)
    page.choose(letter)
    page.until_state("failed")
    page.until(lambda: page.one("#problem").is_displayed())
    assert page.text("#problem h2") == "The upload is not a video in any accepted container."
    assert page.text("#problem a") == "media-unrecognised"
    assert not page.one("#result").is_displayed()
    page.one("#problem a").click()
    assert page.text("h1") == "media-unrecognised"


def test_a_refused_upload_is_explained_and_the_next_file_is_taken(page, tmp_path, clip):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    page.choose(empty)
    page.until_state("failed")
    page.until(lambda: page.one("#problem").is_displayed())
    assert "media-empty" in page.text("#problem")
    page.choose(clip)
    page.until_result()
    assert not page.one("#problem").is_displayed()


def test_an_upload_is_canceled_and_leaves_nothing(mien, page, tmp_path):
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(8_000_000))
    page.driver.set_network_conditions(latency=0, download_throughput=-1, upload_throughput=500_000)
    try:
        page.choose(large)
        page.until(lambda: "of 8.0 MB sent" in page.text("#message"))
        page.one("#cancel").click()
        page.until_state("canceled")
        page.until(lambda: not list((mien.stack.data / "incoming").iterdir()))
    finally:
        page.driver.delete_network_conditions()
    assert not page.one("#problem").is_displayed()


def test_a_running_analysis_is_canceled_and_then_deleted(mien, page, long_portrait, worker_lives):
    page.choose(long_portrait)
    page.until_state("running")
    page.one("#cancel").click()
    page.until_state("canceled")
    job_id = page.job_id()
    assert mien.job(job_id)["state"] == "canceled"
    assert not page.one("#cancel").is_displayed()
    page.one("#delete").click()
    page.until_state("deleted")
    assert mien.http.get(f"/v1/analyses/{job_id}").status_code == 410


def test_a_result_is_found_again_at_its_address(page, clip):
    page.choose(clip)
    page.until_result()
    verdict = page.text(".verdict")
    page.open(f"#{page.job_id()}")
    page.until_result()
    assert page.text(".verdict") == verdict
    assert not page.one("#stage").is_displayed(), "the video is not sent back"
    assert not page.all(".timeline button")[0].is_enabled()


def test_an_unknown_address_is_explained(page):
    page.open(f"#an_{'0' * 32}")
    page.until(lambda: page.one("#problem").is_displayed())
    assert "job-not-found" in page.text("#problem")


def test_a_long_result_is_read_to_its_last_page(mien, page, clip):
    job_id = mien.accepted(clip)
    mien.final(job_id)
    videos = Videos(mien.stack.data)
    (attempt,) = videos.results(job_id)
    videos.write_result(lengthened(videos.read_result(job_id, attempt), windows=1201), attempt)
    page.open(f"#{job_id}")
    page.until_result()
    assert len(page.all(".timeline button")) == 1201
    assert page.text("#tracks summary") == "Timeline in words (1201)"
    assert "3 short track, 1 too small" in page.text("#facts")
    assert "partial decode" in page.text("#facts")


def lengthened(result: Result, *, windows: int) -> Result:
    """The same face for much longer, coming and going: no two of its windows touch."""
    (track,) = result.tracks
    pattern = track.timeline[0]
    timeline = tuple(window_at(pattern, number * 1000) for number in range(windows))
    longer: Track = track.model_copy(update={"timeline": timeline, "end_ms": timeline[-1].end_ms})
    return result.model_copy(
        update={
            "media": result.media.model_copy(update={"duration_ms": windows * 1000}),
            "coverage": result.coverage.model_copy(update={"dropped": {"short_track": 3, "too_small": 1}}),
            "tracks": (longer,),
            "warnings": ("partial-decode",),
        }
    )


def window_at(pattern: Window, start_ms: int) -> Window:
    return pattern.model_copy(update={"start_ms": start_ms, "end_ms": start_ms + 500})


def test_it_waits_for_a_gateway_that_restarts(mien, page, long_portrait):
    page.choose(long_portrait)
    page.until_state("running")
    with mien.stack.programs.down("gateway"):
        page.until(lambda: page.text("#message") == "The server does not answer. Trying again.")
    page.until_result()
    mien.wait_until_ready()
    assert page.text("#state") == "succeeded"


@pytest.mark.parametrize("width", [320, 1280])
def test_nothing_sticks_out_of_the_window(page, clip, width):
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        page.choose(clip)
        page.until_result()
        assert page.value("document.documentElement.scrollWidth") <= width
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
