"""Row L4: nine hundred connections that keep the gateway waiting, and one honest client meanwhile."""

import threading
import time
from pathlib import Path
from typing import Final

import psutil

from deploy.stack import Stack
from tests.bench.figures import Figure
from tests.gateway.slow import Honest, be_honest, drip, open_still, slow_connections

OF_EACH_KIND: Final = 300
GONE_BY_S: Final = 30.0
MOST_WAIT_S: Final = 0.2
DESCRIPTORS_MORE: Final = 5


def run(home: Path, video: Path) -> list[Figure]:
    """300 that send nothing, 300 that never end their headers, 300 that never end their body; for half a minute."""
    with Stack(home=home, announce=print) as stack:
        return figures_of(url=stack.url, pid=stack.programs.pid("gateway"))


def figures_of(*, url: str, pid: int) -> list[Figure]:
    """Of one gateway, with the patience that it has."""
    process, port = psutil.Process(pid), int(url.rpartition(":")[2])
    before, seen, over = descriptors(process, port), Honest(), threading.Event()
    with slow_connections(port, of_each_kind=OF_EACH_KIND) as connections:
        helpers = [threading.Thread(target=drip, args=(connections, over)), threading.Thread(target=be_honest, args=(url, seen, over))]
        for helper in helpers:
            helper.start()
        time.sleep(GONE_BY_S)
        still = open_still(connections)
        over.set()
        for helper in helpers:
            helper.join()
    time.sleep(1)
    refused = sum(status != 200 for status in seen.statuses)
    more = descriptors(process, port) - before
    return [
        figure(f"of {3 * OF_EACH_KIND} slow connections still open after 30 s", still, "", aim="0", reached=not still),
        figure("answers to an honest client that were no 200", refused, "", aim="0", reached=not refused),
        figure("the honest client's wait, 99th percentile", seen.p99_s, "s", aim="under 0.2 s", reached=seen.p99_s <= MOST_WAIT_S),
        figure("clients' connections that stay behind", more, "", aim="5 at most", reached=more <= DESCRIPTORS_MORE),
    ]


def descriptors(process: psutil.Process, port: int) -> int:
    """Connections of clients: those to Redis are kept for later."""
    return sum(connection.laddr.port == port for connection in process.net_connections())


def figure(name: str, value: float, unit: str, *, aim: str, reached: bool) -> Figure:
    return Figure(bench="slow", name=name, value=value, unit=unit, aim=aim, reached=reached)
