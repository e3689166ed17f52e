"""Slow clients by the hundred: none of them stays, and nobody else notices."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from services.gateway.uploads import UploadLimits
from services.web.patience import Patience
from tests.gateway.conftest import MAX_BYTES, RAW, Gateway, read_answer, running, soon
from tests.gateway.slow import Honest, be_honest, drip, is_open, open_still, slow_connections

OF_EACH_KIND = 60
PATIENCE = Patience(head_s=1.0, pause_s=1, unread_s=1.0, per_address=100)
GONE_WITHIN_S = 10.0


@pytest.fixture
def impatient_gateway(redis_url: str, tmp_path: Path) -> Iterator[Gateway]:
    limits = UploadLimits(max_bytes=MAX_BYTES, grace_s=1.0, idle_s=2.0)
    with running(redis_url=redis_url, data=tmp_path / "data", limits=limits, patience=PATIENCE) as gateway:
        yield gateway


def test_none_of_many_slow_connections_stays_and_an_honest_client_is_served(impatient_gateway: Gateway, redis_url: str) -> None:
    port = impatient_gateway.service.port
    before = descriptors(redis_url)
    seen, over = Honest(), threading.Event()
    with slow_connections(port, of_each_kind=OF_EACH_KIND) as connections:
        helpers = [
            threading.Thread(target=drip, args=(connections, over)),
            threading.Thread(target=be_honest, args=(impatient_gateway.service.url, seen, over)),
        ]
        for helper in helpers:
            helper.start()
        try:
            assert open_still(connections) > 0
            assert soon(lambda: open_still(connections) == 0, within_s=GONE_WITHIN_S)
        finally:
            over.set()
            for helper in helpers:
                helper.join()
    assert set(seen.statuses) == {200}
    assert seen.p99_s < 1
    assert soon(lambda: descriptors(redis_url) <= before + 5)
    assert impatient_gateway.settles_to_nothing()


def descriptors(redis_url: str) -> int:
    """Of this process, but for the pool of connections to Redis, which has grown to what was needed at once."""
    process, port = psutil.Process(), urlsplit(redis_url).port
    to_redis = [connection for connection in process.net_connections() if connection.raddr and connection.raddr.port == port]
    return process.num_fds() - len(to_redis)


def test_the_deadline_of_a_head_is_moved_by_no_byte(impatient_gateway: Gateway) -> None:
    with impatient_gateway.connect() as connection:
        began = time.monotonic()
        for byte in b"GET /healthz HTTP/1.1\r\nHost: " + b"x" * 1000:
            with suppress(OSError):
                connection.send(bytes([byte]))
            time.sleep(0.02)
            if not is_open(connection):
                break
        assert PATIENCE.head_s * 0.8 < time.monotonic() - began < PATIENCE.head_s * 2


def test_a_further_request_has_the_same_deadline(impatient_gateway: Gateway) -> None:
    with impatient_gateway.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: mien\r\n\r\n")
        assert read_answer(connection)[0] == 200
        connection.sendall(b"GET /hea")
        began = time.monotonic()
        assert connection.recv(100) == b""
        assert time.monotonic() - began < PATIENCE.head_s * 1.5


def test_half_a_request_behind_a_whole_one_does_not_wait_for_ever(impatient_gateway: Gateway) -> None:
    with impatient_gateway.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: mien\r\n\r\nGET /hea")
        assert read_answer(connection)[0] == 200
        began = time.monotonic()
        assert connection.recv(100) == b""
        assert time.monotonic() - began < PATIENCE.pause_s + PATIENCE.head_s


def test_a_request_that_takes_its_time_after_its_head_is_not_cut_off(impatient_gateway: Gateway) -> None:
    """The body has its own rules: longer than a head may take, if bytes come."""
    with impatient_gateway.connect() as connection:
        connection.sendall(b"POST /v1/analyses HTTP/1.1\r\nHost: mien\r\nContent-Type: video/mp4\r\nContent-Length: 200000\r\n\r\n")
        for _ in range(20):
            connection.sendall(b"v" * 10_000)
            time.sleep(PATIENCE.head_s / 10)
        assert read_answer(connection)[0] == 202


def test_a_client_that_reads_nothing_is_hung_up_on(impatient_gateway: Gateway) -> None:
    """Its answers pile up; the server does not keep them for good."""
    connections = impatient_gateway.service.server.server_state.connections
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", impatient_gateway.service.port))
        for _ in range(100):
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: mien\r\n\r\n")
        assert soon(lambda: connections)
        assert soon(lambda: not connections, within_s=20)


def test_one_address_has_so_many_connections_and_others_do_not_notice(impatient_gateway: Gateway) -> None:
    with slow_connections(impatient_gateway.service.port, of_each_kind=1) as others:
        mine = [impatient_gateway.connect() for _ in range(PATIENCE.per_address + 20)]
        try:
            assert soon(lambda: open_still(mine) <= PATIENCE.per_address, within_s=PATIENCE.head_s * 0.7)
            assert open_still(mine) > PATIENCE.per_address // 2
            assert open_still(others) == 3
        finally:
            for connection in mine:
                connection.close()
    assert soon(lambda: impatient_gateway.http.post("/v1/analyses", content=b"video", headers=RAW).status_code == 202)
