"""Everybody who may knock at a service: a folder of keys, and one header for each way of asking."""

from dataclasses import dataclass
from pathlib import Path

from shared.keys import KeyFolder, NewKey, Purpose, Role

REFUSED = ("nobody", "another scheme", "no key", "cut short", "a wrong secret", "another's secret", "revoked", "expired")
"""Who is told 401."""


@dataclass(frozen=True, kw_only=True)
class Callers:
    """`headers` of each, and the folder to make further ones in."""

    keys: KeyFolder
    headers: dict[str, dict[str, str]]

    def add(self, name: str, new: NewKey) -> None:
        self.headers[name] = bearer(new.written)


def callers(folder: Path) -> Callers:
    keys = KeyFolder(folder)
    clients = {"tenant": "acme", "roles": [Role.CLIENT], "purpose": Purpose.RESEARCH}
    everything = [*Role]
    good, other = keys.create(**clients), keys.create(**{**clients, "tenant": "umbrella"})
    revoked = keys.create(tenant="acme", roles=everything, purpose=Purpose.RESEARCH)
    keys.revoke(revoked.record.id)
    expired = keys.create(tenant="acme", roles=everything, purpose=Purpose.RESEARCH, lives_s=0)
    swapped = good.written[: -len("x" * 43)] + other.written[-43:]
    wrong = good.written[:-1] + ("A" if good.written[-1] != "A" else "B")
    headers = {
        "nobody": {},
        "another scheme": {"Authorization": f"Basic {good.written}"},
        "no key": bearer("mien"),
        "cut short": bearer(good.written[:-1]),
        "a wrong secret": bearer(wrong),
        "another's secret": bearer(swapped),
        "revoked": bearer(revoked.written),
        "expired": bearer(expired.written),
        "client": bearer(good.written),
        "client of another tenant": bearer(other.written),
        "ops": bearer(keys.create(tenant="acme", roles=[Role.OPS]).written),
        "publisher": bearer(keys.create(tenant="acme", roles=[Role.PUBLISHER]).written),
    }
    return Callers(keys=keys, headers=headers)


def bearer(written: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {written}"}
