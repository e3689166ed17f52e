"""A Redis that could lose an accepted job is found out."""

from typing import Any

import pytest
import redis

from shared.errors import QueueUnavailable
from tests.shared.conftest import Gateway

WRONG = {
    "appendonly": "no",
    "appendfsync": "everysec",
    "no-appendfsync-on-rewrite": "yes",
    "maxmemory-policy": "allkeys-lru",
}


@pytest.mark.parametrize(("name", "value"), WRONG.items())
def test_every_setting_that_could_lose_a_job_is_named(redis_server: Any, name: str, value: str) -> None:
    gateway = Gateway(redis_server.url)
    assert gateway.unsafe_settings() == ()
    with redis.Redis.from_url(redis_server.url) as client:
        client.config_set(name, value)
    (wrong,) = gateway.unsafe_settings()
    assert wrong.startswith(f"{name} is {value}, not ")


def test_a_redis_that_is_down_is_not_safe(redis_server: Any) -> None:
    redis_server.kill()
    with pytest.raises(QueueUnavailable):
        Gateway(redis_server.url).unsafe_settings()
