"""Each toxic, on a line to a server that says everything back."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.chaos.faultproxy import FaultProxy, bandwidth, latency, limit_data, reset_peer, slicer, slow_close, timeout

HELLO = b"hello"


@pytest.fixture(scope="module")
def echo_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                while heard := connection.recv(1 << 16):
                    connection.sendall(heard)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(echo_port: int) -> Iterator[FaultProxy]:
    with FaultProxy(to_port=echo_port) as proxy:
        yield proxy


@pytest.fixture
def line(proxy: FaultProxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as line:
        yield line


def said(line: socket.socket, what: bytes = HELLO) -> tuple[bytes, float]:
    """What comes back, to the last byte or the end of the line, and how long it takes."""
    began = time.monotonic()
    line.sendall(what)
    heard = b""
    while len(heard) < len(what) and (more := line.recv(1 << 16)):
        heard += more
    return heard, time.monotonic() - began


def test_without_a_toxic_everything_passes(line: socket.socket) -> None:
    assert said(line, bytes(1 << 20))[0] == bytes(1 << 20)


def test_the_end_of_what_is_said_passes(line: socket.socket) -> None:
    line.sendall(HELLO)
    line.shutdown(socket.SHUT_WR)
    assert line.recv(100) == HELLO
    assert line.recv(100) == b""


@pytest.mark.parametrize(
    ("toxic", "size", "at_least_s"),
    [(latency(0.2, jitter_s=0.05), 5, 0.3), (bandwidth(1000), 200, 0.2), (slicer(1), 1000, 0), (slicer(10, pause_s=0.01), 100, 0.08)],
    ids=["latency", "bandwidth", "slicer", "slow slicer"],
)
def test_what_slows_down_loses_nothing(proxy: FaultProxy, line: socket.socket, toxic, size: int, at_least_s: float) -> None:
    with proxy.toxic(toxic):
        heard, seconds = said(line, b"x" * size)
    assert heard == b"x" * size
    assert seconds >= at_least_s
    assert said(line)[1] < 0.2, "the line is good again"


def test_a_slicer_slices(proxy: FaultProxy, line: socket.socket) -> None:
    with proxy.toxic(slicer(1, pause_s=0.05)):
        line.sendall(HELLO)
        assert line.recv(100) == HELLO[:1]


def test_slow_close(proxy: FaultProxy, line: socket.socket) -> None:
    with proxy.toxic(slow_close(0.2)):
        assert said(line)[1] < 0.2
        began = time.monotonic()
        line.shutdown(socket.SHUT_WR)
        assert line.recv(100) == b""
        assert time.monotonic() - began >= 0.2


def test_a_line_into_nothing_is_closed_when_the_toxic_goes(proxy: FaultProxy, line: socket.socket) -> None:
    line.settimeout(0.3)
    with proxy.toxic(timeout()), pytest.raises(TimeoutError):
        said(line)
    with suppress(ConnectionResetError):
        assert line.recv(100) == b""


def test_a_line_into_nothing_may_be_closed_after_a_time(proxy: FaultProxy, line: socket.socket) -> None:
    with proxy.toxic(timeout(0.2)), suppress(ConnectionResetError):
        assert said(line)[0] == b""


def test_reset_peer(proxy: FaultProxy, line: socket.socket) -> None:
    with proxy.toxic(reset_peer()), pytest.raises(ConnectionResetError):
        said(line)


def test_limit_data(proxy: FaultProxy, line: socket.socket) -> None:
    said(line)
    with proxy.toxic(limit_data(3)), suppress(ConnectionResetError):
        assert len(said(line)[0]) <= 3


def test_down_and_up_again(proxy: FaultProxy, line: socket.socket) -> None:
    with proxy.down():
        with suppress(ConnectionResetError):
            assert line.recv(100) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as again:
        assert said(again)[0] == HELLO


def test_nobody_behind_it(proxy: FaultProxy) -> None:
    proxy.to_port = 1
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as line, suppress(ConnectionResetError):
        assert line.recv(100) == b""
