"""Who may do what in Redis: a user for each service that may do what its calls take, and nobody else may do anything.

`queue.lua` and `deliveries.lua` map the keys. No user can list keys, look at or change how Redis is set up beyond what readiness reads,
empty it, save it, follow it, or load code other than scripts, which may do no more than their user.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

SCRIPTED: Final = (
    *("eval", "evalsha", "script|load", "ping", "hello", "select", "client|setname"),
    *("time", "exists", "del", "get", "set", "incr", "incrby", "decrby", "pexpire"),
    *("hdel", "hexists", "hget", "hgetall", "hincrby", "hset", "hsetnx"),
    *("lindex", "lpop", "lpush", "lrange", "ltrim", "sadd", "smembers"),
    *("xack", "xadd", "xclaim", "xdel", "xgroup", "xpending", "xreadgroup", "xrevrange"),
    *("zadd", "zcard", "zpopmin", "zrange", "zrangebyscore", "zrem", "zrevrange", "zrevrangebylex", "zscore"),
)
"""What the scripts call, and what it takes to call them."""
ALIAS_KEYS: Final = ("mien:aliases", "mien:alias:*")
QUEUE_KEYS: Final = (
    *("mien:job:*", "mien:jobs:*", "mien:waiting:*", "mien:turns", "mien:number", "mien:arrivals", "mien:leases", "mien:delayed"),
    *("mien:queued_bytes", "mien:ended", "mien:expires", "mien:announcements", "mien:deliveries", "mien:gone:*"),
    *("mien:generation", "mien:deleted:*", "mien:idempotency:*", "mien:worked", *ALIAS_KEYS),
)


@dataclass(frozen=True, kw_only=True)
class User:
    """What one service may do."""

    commands: tuple[str, ...]
    keys: tuple[str, ...] = ()

    def rules(self, password: str) -> str:
        """As in an ACL file, with a digest of the password."""
        words = (
            *("on", f"#{hashlib.sha256(password.encode()).hexdigest()}", "resetkeys", "resetchannels", "-@all"),
            *(f"~{pattern}" for pattern in self.keys),
            *(f"+{command}" for command in self.commands),
        )
        return " ".join(words)


USERS: Final[Mapping[str, User]] = {
    # Beside the queue: webhook deliveries, daily limits, how Redis is set up, and upkeep.
    "gateway": User(commands=(*SCRIPTED, "config|get", "info", "expire", "ttl"), keys=("mien:*",)),
    "worker": User(commands=(*SCRIPTED, "info", "xread"), keys=QUEUE_KEYS),
    "training": User(commands=SCRIPTED, keys=ALIAS_KEYS),
    "health": User(commands=("ping",)),
}


def acl_file(passwords: Mapping[str, str]) -> str:
    """For Redis's `aclfile`: each of USERS with its password, and whoever has none may not even connect."""
    lines: Iterable[str] = (f"user {name} {USERS[name].rules(password)}" for name, password in passwords.items())
    return "\n".join(["user default off", *lines]) + "\n"


def url_of(name: str, password: str, *, host: str, port: int) -> str:
    return f"redis://{name}:{quote(password, safe='')}@{host}:{port}/0"
