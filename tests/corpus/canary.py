"""Something to be reached that nobody may reach: a listener for connections and datagrams, and a file with a secret."""

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
SECRET = b"MIEN-PLANTED-SECRET!"
"""Twenty bytes that no encoder makes."""
SECRET_TIMES = 5000


@dataclass
class Canary:
    """What the tricks aim at."""

    port: int
    """Of TCP and UDP on the loopback interface."""
    free_udp_port: int
    """Bound by nobody, unless a decoder binds it."""
    secret: Path
    hits: list[str] = field(default_factory=list)
    """Who came."""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


@contextmanager
def canary(folder: Path) -> Iterator[Canary]:
    """Listen until the block ends."""
    secret = folder / "secret"
    secret.write_bytes(SECRET * SECRET_TIMES)
    with (
        socket.create_server((HOST, 0)) as tcp,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
        socket.socket(type=socket.SOCK_DGRAM) as free,
    ):
        port = tcp.getsockname()[1]
        udp.bind((HOST, port))
        free.bind((HOST, 0))
        bird = Canary(port=port, free_udp_port=free.getsockname()[1], secret=secret)
        free.close()
        stop, ear = socket.socketpair()
        listening = threading.Thread(target=_listen, args=(bird, tcp, udp, ear), daemon=True)
        listening.start()
        try:
            yield bird
        finally:
            stop.close()
            listening.join()
            ear.close()


def _listen(bird: Canary, tcp: socket.socket, udp: socket.socket, ear: socket.socket) -> None:
    with selectors.DefaultSelector() as ready:
        for each in (tcp, udp, ear):
            ready.register(each, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is ear:
                    return
                if key.fileobj is tcp:
                    caller, address = tcp.accept()
                    caller.close()
                else:
                    _, address = udp.recvfrom(1)
                bird.hits.append(f"{'tcp' if key.fileobj is tcp else 'udp'} from {address}")
