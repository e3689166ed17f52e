"""The page follows an analysis by events, and by polling where they do not get through: a real browser before real servers."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.jobs import Timings
from shared.videos import Videos
from tests.browser import Page, opened
from tests.gateway.conftest import VIDEO, Gateway, wait_until
from tests.gateway.results import result
from tests.gateway.test_page_live import ends, report
from tests.gateway.test_windows import finished


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(VIDEO)
    return path


class Relay:
    """Stands before the gateway, and keeps whole answers until they have ended, as some proxies do, or breaks its connections."""

    def __init__(self, port: int, *, keeps: bool = False) -> None:
        self._to = port
        self._keeps = keeps
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def break_all(self) -> None:
        for one in list(self._open):
            self._shut(one)

    def close(self) -> None:
        self._listener.close()
        self.break_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._to))
            self._open |= {client, server}
            threading.Thread(target=self._pass, args=(client, server), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client), kwargs={"answers": True}, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, *, answers: bool = False) -> None:
        try:
            while data := source.recv(65_536):
                if answers and self._keeps and b"text/event-stream" in data:
                    while source.recv(65_536):
                        """Kept."""
                    break
                target.sendall(data)
        except OSError:
            """Somebody has hung up."""
        for one in (source, target):
            self._shut(one)

    @staticmethod
    def _shut(one: socket.socket) -> None:
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            one.close()


@contextmanager
def relayed(gateway: Gateway, *, keeps: bool = False) -> Iterator[Relay]:
    relay = Relay(gateway.service.port, keeps=keeps)
    try:
        yield relay
    finally:
        relay.close()


def asked(page: Page) -> list[str]:
    """The paths that the page has asked for, without the ids in them."""
    names: list[str] = page.value("performance.getEntriesByType('resource').map(entry => new URL(entry.name).pathname)")
    return [name.rpartition("/")[2] if name.endswith(("/events", "/windows")) else "other" for name in names]


def test_an_analysis_is_followed_over_one_connection(driver: Any, gateway: Gateway, clip: Path) -> None:
    with opened(driver, gateway.service.url) as page:
        page.choose(clip)
        page.job_id()
        lease = gateway.claim()
        Videos(gateway.data).add_windows(lease.job.id, lease.attempt, finished(2))
        page.until(lambda: ends(page) == {"t1": "1.0"})
        for frames in (1, 2, 3):
            report(gateway, lease, frames_done=frames, frames_total=3)
            page.until(lambda frames=frames: f"frame {frames} of about 3" in page.text("#message"))
        Videos(gateway.data).write_result(result(lease.job.id, 2), lease.token)
        gateway.worker.succeed(lease, Timings(total=5))
        page.until_result()
        assert "windows" not in asked(page), "nothing is polled"


def test_a_broken_connection_is_made_again_where_it_was(driver: Any, gateway: Gateway, clip: Path) -> None:
    with relayed(gateway) as relay, opened(driver, relay.url) as page:
        page.choose(clip)
        page.job_id()
        lease = gateway.claim()
        videos = Videos(gateway.data)
        videos.add_windows(lease.job.id, lease.attempt, finished(2))
        page.until(lambda: ends(page) == {"t1": "1.0"})
        relay.break_all()
        videos.add_windows(lease.job.id, lease.attempt, finished(4)[2:])
        page.until(lambda: ends(page) == {"t1": "2.0"})
        videos.write_result(result(lease.job.id, 4), lease.token)
        gateway.worker.succeed(lease, Timings(total=5))
        page.until_result()
        assert "windows" not in asked(page)


def test_where_events_do_not_get_through_the_page_polls(driver: Any, gateway: Gateway, clip: Path) -> None:
    with relayed(gateway, keeps=True) as relay, opened(driver, relay.url) as page:
        page.choose(clip)
        page.job_id()
        lease = gateway.claim()
        Videos(gateway.data).add_windows(lease.job.id, lease.attempt, finished(2))
        wait_until(lambda: page.text("#state") != "uploading")
        page.until(lambda: ends(page) == {"t1": "1.0"})
        assert "windows" in asked(page)
        Videos(gateway.data).write_result(result(lease.job.id, 2), lease.token)
        gateway.worker.succeed(lease, Timings(total=5))
        page.until_result()


def test_an_analysis_that_somebody_else_removes_is_said_to_be_gone(driver: Any, gateway: Gateway, clip: Path) -> None:
    with opened(driver, gateway.service.url) as page:
        page.choose(clip)
        job_id = page.job_id()
        page.until_state("queued")
        gateway.http.delete(f"/v1/analyses/{job_id}").raise_for_status()
        page.until(lambda: "removed from the server" in page.text("#problem"))
