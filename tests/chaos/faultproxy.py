"""A TCP proxy that fails on command: the toxics of toxiproxy, in asyncio, in a thread of its own.

    with FaultProxy(to_port=6379) as proxy:
        client = redis.Redis(port=proxy.port)
        with proxy.toxic(latency(2.0, jitter_s=1.0)):
            ...

A toxic acts in both directions on every connection, those that are open already included. Connections that it took bytes from end
with it: what is left of them means nothing.
"""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Self

HOST: Final = "127.0.0.1"
CHUNK_BYTES: Final = 1 << 16
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Cut(Exception):
    """The toxic has ended the connection."""


class Flow:
    """One direction of one connection."""

    def __init__(self, connection: "Connection", writer: asyncio.StreamWriter) -> None:
        self.passed = 0
        """Bytes that were sent on."""
        self._connection = connection
        self._writer = writer

    async def send(self, chunk: bytes) -> None:
        self._writer.write(chunk)
        await self._writer.drain()
        self.passed += len(chunk)

    def swallow(self) -> None:
        """Bytes are lost here, so the connection is of no use when the toxic is gone."""
        self._connection.is_broken = True

    def reset(self) -> None:
        self._connection.reset()
        raise Cut

    async def finish(self) -> None:
        """Nothing more will come from the other side."""
        if self._writer.can_write_eof():
            self._writer.write_eof()


class Connection:
    """Both directions, and the two sockets that they join."""

    def __init__(self, *sides: asyncio.StreamWriter) -> None:
        self.is_broken = False
        self._sides = sides
        self.flows = [Flow(self, side) for side in sides]

    def reset(self) -> None:
        """End both sides with an RST, as a machine does that knows nothing of the connection."""
        for side in self._sides:
            with suppress(OSError):
                side.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            side.transport.abort()

    def abort(self) -> None:
        for side in self._sides:
            side.transport.abort()


Toxic = Callable[[bytes, Flow], Awaitable[None]]
"""What becomes of a chunk on its way; an empty one means that the sender has closed. May raise Cut."""


async def harmless(chunk: bytes, flow: Flow) -> None:
    await flow.send(chunk) if chunk else await flow.finish()


def latency(seconds: float, *, jitter_s: float = 0.0, seed: int = 0) -> Toxic:
    """Every chunk waits for `seconds`, give or take the jitter."""
    chance = random.Random(seed)

    async def toxic(chunk: bytes, flow: Flow) -> None:
        await asyncio.sleep(seconds + chance.uniform(-jitter_s, jitter_s))
        await harmless(chunk, flow)

    return toxic


def bandwidth(bytes_per_s: int) -> Toxic:
    """No more than so many bytes a second, in ten parts."""
    part = max(1, bytes_per_s // 10)

    async def toxic(chunk: bytes, flow: Flow) -> None:
        for start in range(0, len(chunk), part):
            await asyncio.sleep(len(chunk[start : start + part]) / bytes_per_s)
            await flow.send(chunk[start : start + part])
        if not chunk:
            await flow.finish()

    return toxic


def slicer(size: int, *, pause_s: float = 0.0) -> Toxic:
    """Chunks arrive in slices."""

    async def toxic(chunk: bytes, flow: Flow) -> None:
        for start in range(0, len(chunk), size):
            await flow.send(chunk[start : start + size])
            await asyncio.sleep(pause_s)
        if not chunk:
            await flow.finish()

    return toxic


def slow_close(seconds: float) -> Toxic:
    """Closing takes a while."""

    async def toxic(chunk: bytes, flow: Flow) -> None:
        if not chunk:
            await asyncio.sleep(seconds)
        await harmless(chunk, flow)

    return toxic


def timeout(seconds: float = 0.0) -> Toxic:
    """Bytes go nowhere, and after `seconds` the connection ends; with 0 it stays, like a cable that was cut."""

    async def toxic(chunk: bytes, flow: Flow) -> None:
        flow.swallow()
        if seconds:
            await asyncio.sleep(seconds)
            raise Cut

    return toxic


def reset_peer() -> Toxic:
    """Whoever says something hears that there is no such connection."""

    async def toxic(chunk: bytes, flow: Flow) -> None:
        flow.reset()

    return toxic


def limit_data(most: int) -> Toxic:
    """Each direction of a connection ends after so many bytes, in the middle of whatever it is."""

    async def toxic(chunk: bytes, flow: Flow) -> None:
        await harmless(chunk[: max(0, most - flow.passed)], flow)
        if flow.passed >= most:
            raise Cut

    return toxic


class FaultProxy:
    """Listens on a loopback port of its own and passes everything on to another."""

    def __init__(self, *, to_port: int) -> None:
        self.to_port = to_port
        self.port = 0
        self._toxic: Toxic = harmless
        self._connections: set[Connection] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faultproxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._shut())
        self._do(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextmanager
    def toxic(self, toxic: Toxic) -> Iterator[None]:
        """Poison every connection inside the `with`."""
        self._do(self._poison(toxic))
        try:
            yield
        finally:
            self._do(self._poison(harmless))

    @contextmanager
    def down(self) -> Iterator[None]:
        """Nobody listens inside the `with`, and what was open is closed."""
        self._do(self._shut())
        try:
            yield
        finally:
            self._do(self._open())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    # --- in the thread of the loop -----------------------------------------------------------------------------------

    async def _open(self) -> None:
        # asyncio's own server loses a connection that arrives as it closes, whose client then waits for ever.
        self._listener = socket.create_server((HOST, self.port))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        near.setblocking(False)
        task = asyncio.create_task(self._serve(near))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _shut(self) -> None:
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for connection in list(self._connections):
            connection.abort()

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _poison(self, toxic: Toxic) -> None:
        self._toxic = toxic
        for connection in list(self._connections):
            if connection.is_broken:
                connection.abort()
            for flow in connection.flows:
                flow.passed = 0

    async def _serve(self, near: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=near)
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self.to_port)
        except OSError:
            writer.transport.abort()
            return
        connection = Connection(far_writer, writer)
        if self._listener.fileno() < 0:  # it went down meanwhile
            connection.abort()
            return
        self._connections.add(connection)
        there, back = connection.flows
        try:
            await asyncio.gather(self._pump(reader, there), self._pump(far_reader, back))
        except (OSError, Cut):
            connection.abort()
        finally:
            self._connections.discard(connection)
            for side in (writer, far_writer):
                side.close()

    async def _pump(self, reader: asyncio.StreamReader, flow: Flow) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            await self._toxic(chunk, flow)
        await self._toxic(b"", flow)
