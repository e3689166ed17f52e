"""L5: one tenant floods the queue, and another one hardly notices."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from shared.keys import KeyFolder, Purpose, Role
from tests.chaos.client import Client
from tests.chaos.drill import Drill, Verdict
from tests.chaos.supervise import Service

FULL: Final = 500
ASKED: Final = 10
MOST: Final = 3.0
MARK: Final = "the second tenant's p95 wait is at most three times what it is on an idle service"


def run(drill: Drill) -> Verdict:
    n = drill.size(FULL)
    clips = drill.clips(1)
    keys = KeyFolder(drill.folder / "keys")
    (drill.folder / "keys").mkdir()
    secrets = [keys.create(tenant=tenant, roles=[Role.CLIENT], purpose=Purpose.RESEARCH).written for tenant in ("flood", "guest")]
    settings = {"MIEN_API_KEYS": str(drill.folder / "keys"), "MIEN_REQUESTS_PER_MINUTE": "1000000"}
    with (
        Service(drill.folder, models=drill.models(), settings=settings) as service,
        Client(service.url, api_key=secrets[0]) as flood,
        Client(service.url, api_key=secrets[1]) as guest,
    ):
        idle_s = waits_s(guest, clips, name="idle")
        flood.post_all(clips, keys=[f"flood-{number}" for number in range(n)], within_s=300)
        busy_s = waits_s(guest, clips, name="busy")
        waited = sum(job["state"] == "queued" for job in flood.jobs())
    ratio = p95(busy_s) / p95(idle_s)
    return Verdict(
        id="L5",
        n=n,
        passed=ratio <= MOST and waited > 0,
        value={
            "ratio": round(ratio, 2),
            "idle_p95_s": round(p95(idle_s), 2),
            "busy_p95_s": round(p95(busy_s), 2),
            "of_the_flood_still_waiting": waited,
        },
        mark=MARK,
    )


def waits_s(client: Client, clips: Sequence[Path], *, name: str) -> list[float]:
    """From acceptance to the end, of some videos that are posted together."""
    ids = client.post_all(clips, keys=[f"{name}-{number}" for number in range(ASKED)], within_s=60)
    return [(job["ended_ms"] - job["created_ms"]) / 1000 for job in client.all_final(ids, within_s=300)]


def p95(seconds: Sequence[float]) -> float:
    return sorted(seconds)[round(0.95 * (len(seconds) - 1))]
