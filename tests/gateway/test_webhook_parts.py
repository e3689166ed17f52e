"""What webhooks are made of, each by itself: signatures, waits, and files."""

import base64
import hashlib
import hmac
import threading
from pathlib import Path

import pytest

from services.gateway.webhooks.records import EventType, Secret, Webhook, Webhooks
from services.gateway.webhooks.retries import WAITS_S, next_in_s, retry_after_s
from services.gateway.webhooks.signing import OVERLAP_MS, live, new_secret, rotated, signed_headers
from shared.errors import WebhookNotFound

NOW_MS = 1_614_265_330_000

# --- signatures: the vector of the specification's own libraries -------------------------------------------------------

VECTOR_SECRET = Secret(written="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
VECTOR_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
VECTOR_CONTENT = '{"test": 2432232314}'
VECTOR_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_vector_of_the_specification_is_signed_as_it_says() -> None:
    headers = signed_headers(VECTOR_ID, VECTOR_CONTENT, [VECTOR_SECRET], now_ms=NOW_MS)
    assert headers == {"webhook-id": VECTOR_ID, "webhook-timestamp": "1614265330", "webhook-signature": VECTOR_SIGNATURE}


def test_a_fraction_of_a_second_changes_nothing() -> None:
    headers = signed_headers(VECTOR_ID, VECTOR_CONTENT, [VECTOR_SECRET], now_ms=NOW_MS + 999)
    assert (headers["webhook-timestamp"], headers["webhook-signature"]) == ("1614265330", VECTOR_SIGNATURE)


def test_any_text_is_signed_as_the_specification_writes_it_down() -> None:
    secret, content = new_secret(), '{"name":"Zoë 😀"}'
    key = base64.b64decode(secret.written.removeprefix("whsec_"))
    assert 24 <= len(key) <= 64
    signed = hmac.digest(key, f"msg_1.1614265330.{content}".encode(), hashlib.sha256)
    headers = signed_headers("msg_1", content, [secret], now_ms=NOW_MS)
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(signed).decode()}"


def test_while_secrets_change_over_both_sign_the_newest_first() -> None:
    first = (new_secret(),)
    second = rotated(first, now_ms=NOW_MS)
    assert [one.written for one in live(second, now_ms=NOW_MS + OVERLAP_MS - 1)] == [second[0].written, first[0].written]
    assert live(second, now_ms=NOW_MS + OVERLAP_MS) == second[:1]
    third = rotated(second, now_ms=NOW_MS + 1000)
    assert len({one.written for one in third}) == 3
    assert [one.until_ms for one in third] == [None, NOW_MS + 1000 + OVERLAP_MS, NOW_MS + OVERLAP_MS]
    assert len(rotated(third, now_ms=NOW_MS + 2 * OVERLAP_MS)) == 2, "what signs no more is not kept"


# --- waits -----------------------------------------------------------------------------------------------------------


def test_the_schedule_is_that_of_the_specification() -> None:
    assert WAITS_S == (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)


@pytest.mark.parametrize("tries", range(1, 10))
def test_a_wait_is_never_shorter_and_a_little_longer(tries: int) -> None:
    waits = [next_in_s(tries, WAITS_S) or 0 for _ in range(200)]
    assert WAITS_S[tries - 1] <= min(waits) < max(waits) <= WAITS_S[tries - 1] * 1.1


def test_after_the_last_wait_there_is_no_other() -> None:
    assert next_in_s(10, WAITS_S) is None
    assert next_in_s(10, WAITS_S, asked_s=60) is None


def test_a_receiver_is_given_the_time_that_it_asks_for_but_a_day_at_most() -> None:
    assert next_in_s(1, WAITS_S, asked_s=1000) == 1000
    assert next_in_s(1, WAITS_S, asked_s=1e9) == 86_400
    assert 5 <= (next_in_s(1, WAITS_S, asked_s=1) or 0) <= 5.5


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("17", 17),
        ("9" * 400, 999_999_999),
        ("-1", None),
        ("soon", None),
        ("١٧", None),
        ("Thu, 25 Feb 2021 15:03:10 GMT", 60),
        ("Thu, 25 Feb 1999 15:03:10 GMT", 0),
        ("Thu, 99 Feb 2021 15:03:10 GMT", None),
    ],
)
def test_what_a_receiver_asks_for_is_understood_or_left(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, now_s=NOW_MS / 1000 + 0) == (seconds if seconds != 60 else pytest.approx(60, abs=1))


# --- files -----------------------------------------------------------------------------------------------------------


def webhook(number: int, tenant: str = "public") -> Webhook:
    name = f"wh_{number:032x}"
    return Webhook(
        id=name, tenant=tenant, url="https://a.example", events=tuple(EventType), secrets=(new_secret(),), created_ms=NOW_MS + number
    )


@pytest.fixture
def webhooks(tmp_path: Path) -> Webhooks:
    folder = Webhooks(tmp_path / "webhooks")
    folder.prepare()
    return folder


def test_a_webhook_is_its_tenants_and_is_found_by_whoever_tells_it(webhooks: Webhooks) -> None:
    mine, theirs = webhook(1, "mine"), webhook(2, "theirs")
    webhooks.add(mine)
    webhooks.add(theirs)
    assert webhooks.of_tenant("mine") == [mine]
    assert webhooks.find(theirs.id) == theirs
    with pytest.raises(WebhookNotFound):
        webhooks.get("mine", theirs.id)
    with pytest.raises(WebhookNotFound):
        webhooks.delete("mine", theirs.id)
    with pytest.raises(WebhookNotFound):
        webhooks.change("mine", theirs.id, lambda one: one)


def test_changes_of_many_at_once_are_all_made(webhooks: Webhooks) -> None:
    webhooks.add(webhook(1))
    rotate = lambda one: one.model_copy(update={"secrets": (*one.secrets, new_secret())})  # noqa: E731
    threads = [threading.Thread(target=webhooks.change, args=("public", webhook(1).id, rotate)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(webhooks.get("public", webhook(1).id).secrets) == 9


def test_a_file_of_another_version_hides_none_of_the_others(webhooks: Webhooks, tmp_path: Path) -> None:
    webhooks.add(webhook(1))
    (tmp_path / "webhooks" / "public" / f"wh_{2:032x}.json").write_text("{}")
    assert [one.id for one in webhooks.of_tenant("public")] == [webhook(1).id]
    assert webhooks.find(f"wh_{2:032x}") is None
