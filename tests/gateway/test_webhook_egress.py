"""Nothing leaves for where it must not: a canary listens on every address of this machine, and hears nothing."""

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from services.gateway.webhooks.egress import Egress, is_public, literal_address, system_resolve
from services.gateway.webhooks.sending import Answer, Sender
from shared.deliveries import Outcome
from shared.errors import WebhookUrlForbidden
from tests.gateway.conftest import Gateway
from tests.gateway.receiver import Receiver, receiving, to_loopback

PORT = "PORT"

CORPUS = (
    # loopback, in every way of writing it down
    "http://127.0.0.1:PORT/",
    "http://127.0.0.2:PORT/",
    "http://127.255.255.254:PORT/",
    "http://localhost:PORT/",
    "http://LOCALHOST:PORT/",
    "http://localhost.:PORT/",
    "http://127.1:PORT/",
    "http://127.0.1:PORT/",
    "http://2130706433:PORT/",
    "http://0x7f000001:PORT/",
    "http://0x7f.0x0.0x0.0x1:PORT/",
    "http://017700000001:PORT/",
    "http://0177.0.0.1:PORT/",
    "http://0177.0.0.01:PORT/",
    "http://0000000127.0.0.1:PORT/",
    "http://127.0.0.1.:PORT/",
    "http://%31%32%37.0.0.1:PORT/",
    "http://①②⑦.⓪.⓪.①:PORT/",
    "http://１２７．０．０．１:PORT/",
    "http://127。0。0。1:PORT/",
    "http://[::1]:PORT/",
    "http://[0:0:0:0:0:0:0:1]:PORT/",
    "http://[::ffff:127.0.0.1]:PORT/",
    "http://[::ffff:7f00:1]:PORT/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:PORT/",
    "http://[::127.0.0.1]:PORT/",
    "http://[64:ff9b::7f00:1]:PORT/",
    "http://[64:ff9b:1::7f00:1]:PORT/",
    "http://[2002:7f00:1::]:PORT/",
    "http://[2001:0:7f00:1::]:PORT/",
    "http://[::1%25lo]:PORT/",
    # everywhere, and nowhere
    "http://0:PORT/",
    "http://0.0.0.0:PORT/",
    "http://0.1.2.3:PORT/",
    "http://[::]:PORT/",
    "http://255.255.255.255:PORT/",
    # the machine's own, and its neighbours
    "http://HOSTNAME:PORT/",
    "http://OWN_ADDRESS:PORT/",
    "http://10.0.0.1:PORT/",
    "http://172.16.0.1:PORT/",
    "http://172.31.255.255:PORT/",
    "http://192.168.1.1:PORT/",
    "http://3232235777:PORT/",
    "http://100.64.0.1:PORT/",
    "http://198.18.0.1:PORT/",
    "http://192.0.0.1:PORT/",
    "http://[fc00::1]:PORT/",
    "http://[fd00:ec2::254]:PORT/",
    "http://[fe80::1]:PORT/",
    "http://[fec0::1]:PORT/",
    # metadata of clouds
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/latest/meta-data/",
    "http://0xA9FEA9FE/",
    "http://0251.0376.0251.0376/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://169.254.170.2/v2/credentials",
    "http://100.100.100.200/latest/meta-data/",
    # many at once, and documentation
    "http://224.0.0.1:PORT/",
    "http://[ff02::1]:PORT/",
    "http://240.0.0.1:PORT/",
    "http://192.0.2.1:PORT/",
    "http://[2001:db8::1]:PORT/",
    # users, and other tricks of writing
    "http://example.com@127.0.0.1:PORT/",
    "http://example.com:80@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT@example.com/",
    "http://user:password@example.com/",
    "http://example.com%40127.0.0.1:PORT/",
    "http://example.com\\@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT\\@example.com/",
    "http://127.0.0.1:PORT#@example.com/",
    "http://127.0.0.1:PORT?@example.com/",
    "http:127.0.0.1:PORT/",
    "http:///127.0.0.1:PORT/",
    "http://127.0.0.1%00.example.com:PORT/",
    "http://127.0.0.1\t:PORT/",
    "http://127.0.0.1:PORT\r\nX: y/",
    " http://127.0.0.1:PORT/",
    # other schemes
    "//127.0.0.1:PORT/",
    "127.0.0.1:PORT",
    "ftp://127.0.0.1:PORT/",
    "gopher://127.0.0.1:PORT/_x",
    "file:///etc/passwd",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
    "javascript:alert(1)",
    "data:text/plain,x",
    "",
    "http://",
    "https://",
    "http://[",
    "http://[::1",
    "http://a..b/",
    f"http://{'a' * 300}.example/",
    "http://" + "a" * 3000,
)


def own_address() -> str:
    """Of the machine on its network, found without sending anything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """Everywhere on this machine, in a process of its own."""
    with receiving(tmp_path_factory.mktemp("canary"), "0.0.0.0", "::1") as canary:  # noqa: S104 -- it is there to be found
        yield canary
        assert canary.got() == []


def at(url: str, canary: Receiver) -> str:
    return url.replace("PORT", str(canary.port)).replace("HOSTNAME", socket.gethostname()).replace("OWN_ADDRESS", own_address())


def sent(egress: Egress, url: str, *, timeout_s: float = 3) -> Answer:
    async def send() -> Answer:
        sender = Sender(egress, timeout_s=timeout_s)
        try:
            return await sender.send(url, {"webhook-id": "msg_1"}, "{}")
        finally:
            await sender.close()

    return asyncio.run(send())


def test_the_corpus_is_as_large_as_was_asked_for() -> None:
    assert len(set(CORPUS)) >= 60


@pytest.mark.parametrize("url", CORPUS)
def test_no_such_url_is_taken_and_to_none_is_anything_sent(url: str, canary: Receiver) -> None:
    lenient, place = Egress(allow_http=True), at(url, canary)
    with pytest.raises(WebhookUrlForbidden):
        asyncio.run(lenient.check(place))
    answer = sent(lenient, place)
    assert answer.outcome in {Outcome.FORBIDDEN, Outcome.UNREACHABLE}
    assert answer.status is None


def test_the_canary_can_be_heard(tmp_path: Path) -> None:
    with receiving(tmp_path, "0.0.0.0") as receiver:  # noqa: S104
        assert sent(to_loopback(), receiver.url("200")).outcome is Outcome.DELIVERED
        assert receiver.gets(1)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "https://10.0.0.1/", "http://example.com/", "https://user@example.com/"])
def test_the_api_refuses_them(lasting_gateway: Gateway, url: str) -> None:
    response = lasting_gateway.http.post("/v1/webhooks", json={"url": url})
    assert (response.status_code, response.json()["code"]) == (422, "webhook-url-forbidden")
    assert lasting_gateway.get("/v1/webhooks") == {"webhooks": []}


def test_without_being_told_otherwise_only_encrypted_urls_are_taken() -> None:
    with pytest.raises(WebhookUrlForbidden, match="https://"):
        Egress().parse("http://example.com/")
    assert Egress().parse("https://example.com/hook?x=1").raw_path == b"/hook?x=1"


# --- names that lead elsewhere ---------------------------------------------------------------------------------------


class Resolver:
    """Says something else each time it is asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def test_a_name_that_leads_elsewhere_after_it_was_checked_gains_nothing(canary: Receiver) -> None:
    rebinding = Resolver(["93.184.215.14"], ["127.0.0.1"])
    egress = Egress(allow_http=True, resolve=rebinding)
    url = f"http://rebinding.example:{canary.port}/"
    asyncio.run(egress.check(url))
    assert sent(egress, url).outcome is Outcome.FORBIDDEN


def test_the_connection_is_made_to_the_address_that_was_judged(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        resolver = Resolver(["127.0.0.1"], ["127.0.0.99"])
        egress = Egress(allow_http=True, networks=to_loopback()._networks, resolve=resolver)
        answer = sent(egress, f"http://pinned.example:{receiver.port}/200")
        assert (answer.outcome, resolver.asked) == (Outcome.DELIVERED, 1), "nobody asks a second time"
        assert receiver.got()[0]["headers"]["host"] == f"pinned.example:{receiver.port}"


@pytest.mark.parametrize("addresses", [["93.184.215.14", "127.0.0.1"], ["::1", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"], ["fe80::1%lo"]])
def test_one_bad_address_among_good_ones_is_one_too_many(addresses: list[str], canary: Receiver) -> None:
    egress = Egress(allow_http=True, resolve=Resolver(addresses))
    assert sent(egress, f"http://both.example:{canary.port}/").outcome is Outcome.FORBIDDEN


def test_the_next_address_is_tried_when_the_first_does_not_answer(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        egress = Egress(allow_http=True, networks=to_loopback()._networks, resolve=Resolver(["127.0.0.77", "127.0.0.1"]))
        assert sent(egress, f"http://two.example:{receiver.port}/200").outcome is Outcome.DELIVERED


def test_a_name_that_nobody_knows_is_unreachable() -> None:
    assert sent(Egress(allow_http=True), "http://nobody.invalid/").outcome is Outcome.UNREACHABLE


# --- proxies ---------------------------------------------------------------------------------------------------------


def test_no_proxy_of_the_environment_is_used(tmp_path: Path, canary: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setitem(os.environ, name, f"http://127.0.0.1:{canary.port}")
    with receiving(tmp_path) as receiver:
        assert sent(to_loopback(), receiver.url("200")).outcome is Outcome.DELIVERED


def test_a_proxy_that_was_asked_for_gets_it_all_but_no_address_that_can_be_seen_to_be_forbidden(tmp_path: Path) -> None:
    with receiving(tmp_path) as proxy:
        egress = Egress(allow_http=True, proxy=f"http://127.0.0.1:{proxy.port}")
        asyncio.run(egress.check("http://somewhere.example/hook"))
        sent(egress, "http://somewhere.example/hook")
        assert [one["path"] for one in proxy.got()] == ["http://somewhere.example/hook"]
        for url in ("http://127.0.0.1/", "http://0x7f000001/", "http://[::ffff:10.0.0.1]/"):
            assert sent(egress, url).outcome is Outcome.FORBIDDEN
        assert len(proxy.got()) == 1


# --- what is public --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["93.184.215.14", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_what_everybody_can_reach_is_public(text: str) -> None:
    address = literal_address(text)
    assert address is not None
    assert is_public(address)


def test_a_host_that_is_a_name_is_no_address() -> None:
    assert literal_address("example.com") is None
    assert str(literal_address("0x7f.1")) == "127.0.0.1"


def test_names_are_resolved_by_the_system() -> None:
    assert "127.0.0.1" in asyncio.run(system_resolve("localhost", 80))


def test_a_certificate_is_asked_for(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        url = f"https://127.0.0.1:{receiver.port}/"
        assert sent(Egress(networks=to_loopback()._networks), url).outcome is Outcome.UNREACHABLE, "it speaks no TLS"
    assert ssl.create_default_context().verify_mode is ssl.CERT_REQUIRED
