"""B6: forms that mean harm, one after the other, to a gateway that takes its own pulse meanwhile."""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from deploy.stack import HOST, REPOSITORY, answers, free_ports, redis_program
from deploy.supervisor import Program, Supervisor
from tests.chaos.drill import Drill, Verdict
from tests.chaos.supervise import REDIS_STARTS_WITHIN_S, say_nothing
from tests.gateway.hostile import DEAR, HOSTILE, post, request

FULL: Final = 10
"""Rounds of all of them."""
STARTS_WITHIN_S: Final = 60.0
MOST_STALL_S: Final = 0.1
MOST_BUSY_S: Final = 1.0
"""Of processor time, for 64 MiB."""
MARK: Final = (
    "hostile forms are the sender's fault and make no analysis; the event loop is never late by more than 100 ms; 64 MiB take at most 1 s"
)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What came of one form."""

    name: str
    status: int
    began: float
    ended: float
    busy_s: float
    """Of the whole process."""


def run(drill: Drill) -> Verdict:
    port, redis_port = free_ports(2)
    redis_url, url, beats = f"redis://{HOST}:{redis_port}/0", f"http://{HOST}:{port}", drill.folder / "beats"
    command = (sys.executable, "-m", "tests.chaos.heartbeat", str(port), redis_url, drill.folder / "data", beats)
    with Supervisor(logs=drill.folder / "logs", directory=REPOSITORY, announce=say_nothing) as programs:
        programs.start(redis_program(home=drill.folder / "redis", port=redis_port))
        programs.wait("redis", lambda: answers(redis_url), timeout_s=REDIS_STARTS_WITHIN_S)
        programs.start(Program(name="gateway", command=command))
        programs.wait("gateway", lambda: is_alive(url), timeout_s=STARTS_WITHIN_S)
        gateway = psutil.Process(programs.pid("gateway"))
        sent = [one for _ in range(drill.size(FULL)) for one in a_round(port, gateway)]
        listed = httpx.get(f"{url}/v1/analyses", params={"page_size": 500}, timeout=30, trust_env=False).json()["analyses"]
    hostile = [one for one in sent if one.name in HOSTILE]
    dear = [one for one in sent if one.name in DEAR]
    stalls, work = lateness(beats, sent, "stall_s"), lateness(beats, sent, "busy_s")
    return Verdict(
        id="B6",
        n=len(sent),
        passed=all(400 <= one.status < 500 for one in hostile)
        and len(listed) == sum(one.status == 202 for one in dear) == len(dear)
        and max(stalls.values()) <= MOST_STALL_S
        and max(one.busy_s for one in dear) <= MOST_BUSY_S,
        value={
            "stall_ms": {name: round(seconds * 1000, 1) for name, seconds in stalls.items()},
            "worked_at_a_stretch_ms": round(max(work.values()) * 1000, 1),
            "cpu_s_per_64_mib": round(max(one.busy_s for one in dear), 2),
            "not_4xx": [one.name for one in hostile if not 400 <= one.status < 500],
        },
        mark=MARK,
    )


def is_alive(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def a_round(port: int, gateway: psutil.Process) -> list[Sent]:
    forms = {**{name: request(*of) for name, of in HOSTILE.items()}, **DEAR}
    return [send(port, name, content, gateway) for name, content in forms.items()]


def send(port: int, name: str, content: bytes, gateway: psutil.Process) -> Sent:
    began, before = time.monotonic(), sum(gateway.cpu_times()[:2])
    status, _ = post(port, content)
    return Sent(name=name, status=status, began=began, ended=time.monotonic(), busy_s=sum(gateway.cpu_times()[:2]) - before)


def lateness(beats: Path, sent: list[Sent], field: str) -> Mapping[str, float]:
    """The most of any beat during each kind of form."""
    late: list[dict[str, Any]] = [json.loads(line) for line in beats.read_text().splitlines()]
    worst = dict.fromkeys((one.name for one in sent), 0.0)
    for one in sent:
        worst[one.name] = max([worst[one.name], *(beat[field] for beat in late if one.began <= beat["at"] <= one.ended)])
    return worst
