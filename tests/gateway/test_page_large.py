"""A large file on the page: it goes in pieces, and what has arrived is not sent again, whatever breaks."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from services.gateway.tus.store import Uploads
from tests.browser import Page, opened
from tests.chaos.faultproxy import FaultProxy, Flow, Toxic, harmless
from tests.gateway.conftest import soon
from tests.gateway.processes import GatewayProcess, launched

MIB = 2**20
LARGE = 65 * MIB
PER_S = 24 * MIB
"""How fast the browser may send: slowly enough to break something meanwhile."""


@pytest.fixture
def process(redis_url: str, tmp_path: Path) -> Iterator[GatewayProcess]:
    with launched(redis_url=redis_url, data=tmp_path / "data") as process:
        yield process


@pytest.fixture
def page(driver: Any, process: GatewayProcess) -> Iterator[Page]:
    with opened(driver, process.url) as page:
        driver.execute_cdp_cmd("Network.enable", {})
        driver.execute_cdp_cmd(
            "Network.emulateNetworkConditions", {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": PER_S}
        )
        try:
            yield page
        finally:
            driver.execute_cdp_cmd("Network.disable", {})


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    with path.open("wb") as file:
        file.truncate(LARGE)
    return path


def arrived(process: GatewayProcess) -> dict[str, int]:
    """How much of each upload that is not finished is on the disk."""
    uploads = Uploads(process.data)
    return {upload.id: uploads.offset(upload) for upload in uploads.all() if not upload.finished}


def some_has_arrived(process: GatewayProcess) -> dict[str, int]:
    assert soon(lambda: any(arrived(process).values()), within_s=60)
    return arrived(process)


def analyses(process: GatewayProcess) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = httpx.get(f"{process.url}/v1/analyses", trust_env=False, timeout=30).json()["analyses"]
    return listed


def test_a_gateway_that_is_killed_meanwhile_is_waited_for(process: GatewayProcess, page: Page, film: Path) -> None:
    page.one("#fold summary").click()
    page.one("#options [name=keep]").click()
    page.choose(film)
    page.until(lambda: "of 68.2 MB sent." in page.text("#message"))
    (upload,) = some_has_arrived(process)
    process.kill()
    page.until(lambda: page.text("#message") == "The server does not answer. Trying again.")
    process.start()
    job_id = page.job_id()
    (analysis,) = analyses(process)
    assert (analysis["id"], analysis["size_bytes"], analysis["options"]["keep_video"]) == (job_id, LARGE, True)
    assert job_id.removeprefix("an_") == upload.removeprefix("up_")
    page.until_state("queued")


def test_a_page_that_is_loaded_anew_goes_on_with_the_same_file(process: GatewayProcess, page: Page, film: Path) -> None:
    page.choose(film)
    (upload,) = some_has_arrived(process)
    page.open()
    before = arrived(process)[upload]
    page.choose(film)
    assert page.job_id().removeprefix("an_") == upload.removeprefix("up_")
    assert before > 0
    assert len(analyses(process)) == 1


def test_an_upload_that_is_canceled_leaves_nothing(process: GatewayProcess, page: Page, film: Path) -> None:
    page.choose(film)
    some_has_arrived(process)
    page.one("#cancel").click()
    page.until_state("canceled")
    assert soon(lambda: arrived(process) == {}, within_s=30)
    assert analyses(process) == []


def send_all_but_the_end(process: GatewayProcess, upload: str) -> None:
    """As if the page had done so."""
    headers = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
    with httpx.Client(base_url=process.url, trust_env=False, timeout=60) as client:
        while (offset := arrived(process)[upload]) < LARGE - MIB:
            content = bytes(LARGE - MIB - offset)
            client.patch(f"/v1/uploads/{upload}", content=content, headers={**headers, "Upload-Offset": str(offset)})


def kept_from_the_page(told: threading.Event) -> Toxic:
    """That a piece has arrived is not heard until then."""

    async def toxic(chunk: bytes, flow: Flow) -> None:
        if chunk.startswith(b"HTTP/1.1 204"):
            await asyncio.to_thread(told.wait)
        await harmless(chunk, flow)

    return toxic


def test_what_was_whole_when_it_was_canceled_leaves_nothing(process: GatewayProcess, page: Page, film: Path) -> None:
    told = threading.Event()
    with FaultProxy(to_port=urlsplit(process.url).port or 0) as proxy:
        page = replace(page, url=f"http://127.0.0.1:{proxy.port}")
        page.open()
        page.choose(film)
        (upload,) = some_has_arrived(process)
        page.open()
        send_all_but_the_end(process, upload)
        try:
            with proxy.toxic(kept_from_the_page(told)):
                page.choose(film)
                assert soon(lambda: bool(analyses(process)), within_s=60)
                page.one("#cancel").click()
                page.until_state("canceled")
        finally:
            told.set()
        assert soon(lambda: analyses(process) == [], within_s=60)
        assert list((process.data / "analyses").iterdir()) == []


def test_an_upload_that_is_gone_begins_again(process: GatewayProcess, page: Page, film: Path) -> None:
    page.choose(film)
    (upload,) = some_has_arrived(process)
    page.open()
    assert soon(lambda: given_up(process, upload), within_s=60), "the server is still busy with what the page has left off"
    page.choose(film)
    assert page.job_id().removeprefix("an_") != upload.removeprefix("up_")
    assert len(analyses(process)) == 1


def given_up(process: GatewayProcess, upload: str) -> bool:
    gone = httpx.delete(f"{process.url}/v1/uploads/{upload}", headers={"Tus-Resumable": "1.0.0"}, trust_env=False, timeout=30)
    return gone.status_code == 204


def test_the_same_file_chosen_again_begins_again(process: GatewayProcess, page: Page, film: Path) -> None:
    page.choose(film)
    (first,) = some_has_arrived(process)
    page.one("#file").clear()
    page.choose(film)
    assert page.job_id().removeprefix("an_") != first.removeprefix("up_")
    assert soon(lambda: arrived(process) == {}, within_s=60)
    assert len(analyses(process)) == 1
    assert page.value("sessionStorage.length") == 0
