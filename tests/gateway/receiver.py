"""A receiver of webhooks in a process of its own, and the gateway that may reach it."""

import ipaddress
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.gateway.webhooks.courier import Terms
from services.gateway.webhooks.egress import Egress
from tests.gateway.conftest import soon

PROGRAM: Final = Path(__file__).with_name("receiver_program.py")
LOOPBACK: Final = ipaddress.ip_network("127.0.0.0/8")
HASTY: Final = Terms(waits_s=(0.05, 0.1, 0.2), timeout_s=0.5, lease_s=1.0, look_every_s=0.02)


def to_loopback() -> Egress:
    return Egress(allow_http=True, networks=(LOOPBACK,))


@dataclass(frozen=True, kw_only=True)
class Receiver:
    """What came, and from where on it can be reached."""

    port: int
    log: Path

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def got(self, path: str | None = None) -> list[dict[str, Any]]:
        """The requests so far, in the order in which they came."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        found = [json.loads(line) for line in lines]
        return [one for one in found if path is None or one["path"] == f"/{path}"]

    def gets(self, count: int, path: str | None = None, *, within_s: float = 8) -> bool:
        return soon(lambda: len(self.got(path)) >= count, within_s=within_s)


@contextmanager
def receiving(folder: Path, *addresses: str) -> Iterator[Receiver]:
    log = folder / "received.jsonl"
    command = [sys.executable, str(PROGRAM), str(log), *(addresses or ("127.0.0.1",))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Receiver(port=int(process.stdout.readline()), log=log)
        finally:
            process.kill()
