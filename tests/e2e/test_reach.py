"""What of the running stack can be reached, and from where."""

import ipaddress

import psutil
import pytest
import redis

PROGRAMS = ("redis", "triton", "gateway", "worker", "training")


def addresses(mien, name):
    """Where a program and its children listen."""
    top = psutil.Process(mien.stack.programs.pid(name))
    connections = [it for process in (top, *top.children(recursive=True)) for it in process.net_connections("inet")]
    return [it.laddr for it in connections if it.status == psutil.CONN_LISTEN]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_of_the_stack_listens_to_this_machine_alone(mien, name):
    found = addresses(mien, name)
    assert found
    # gRPC writes an address of IPv4 as one of IPv6.
    assert [at for at in found if not ipaddress.ip_address(at.ip.removeprefix("::ffff:")).is_loopback] == []


def test_redis_lets_nobody_in_but_the_services_which_do_their_work(mien, portrait):
    (at,) = addresses(mien, "redis")
    with redis.Redis(port=at.port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    assert mien.result(mien.accepted(portrait))["tracks"]
