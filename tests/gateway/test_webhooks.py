"""Webhooks: a real gateway, a real receiver in a process of its own."""

import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis
from standardwebhooks import Webhook, WebhookVerificationError

from services.gateway.uploads import UploadLimits
from services.gateway.webhooks import records, signing
from services.gateway.webhooks.courier import Terms
from services.web.guard import Guard
from shared.errors import MediaNoVideoStream
from shared.jobs import Failure
from tests.gateway.conftest import MAX_BYTES, RAW, VIDEO, Gateway, running, wait_until
from tests.gateway.receiver import HASTY, Receiver, receiving, to_loopback
from tests.web.callers import callers

LIMITS = UploadLimits(max_bytes=MAX_BYTES)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiving(tmp_path) as receiver:
        yield receiver


@pytest.fixture
def telling(redis_url: str, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that may tell this machine, and soon tries again."""
    with running(redis_url=redis_url, data=tmp_path / "data", limits=LIMITS, egress=to_loopback(), terms=HASTY) as gateway:
        yield gateway


def made(gateway: Gateway, url: str, **more: Any) -> dict[str, Any]:
    response = gateway.http.post("/v1/webhooks", json={"url": url, **more})
    assert response.status_code == 201, response.text
    webhook: dict[str, Any] = response.json()
    assert response.headers["location"] == webhook["links"]["webhook"]
    return webhook


def deliveries(gateway: Gateway, webhook: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gateway.get(webhook["links"]["deliveries"])["deliveries"]
    return found


def settled(gateway: Gateway, webhook: dict[str, Any], count: int = 1) -> list[dict[str, Any]]:
    """The deliveries, once there are that many and none is pending."""
    wait_until(lambda: len(found := deliveries(gateway, webhook)) == count and all(one["state"] != "pending" for one in found))
    return deliveries(gateway, webhook)


# --- what is told ----------------------------------------------------------------------------------------------------


def test_an_end_is_told_and_says_what_polling_says(telling: Gateway, receiver: Receiver) -> None:
    webhook = made(telling, receiver.url("200"))
    job_id = telling.post()["id"]
    telling.succeed()
    assert receiver.gets(1)
    (got,) = receiver.got()
    message = Webhook(webhook["secret"]).verify(got["body"], got["headers"])
    polled = telling.get(f"/v1/analyses/{job_id}")
    assert message["type"] == "analysis.succeeded"
    assert message["data"].pop("url") == polled["links"]["analysis"]
    assert message["data"] == {name: polled[name] for name in ("id", "state", "created_ms", "started_ms", "ended_ms")}
    assert got["headers"]["content-type"] == "application/json"
    assert len(got["body"]) < 1000
    (delivery,) = settled(telling, webhook)
    assert (delivery["id"], delivery["analysis"], delivery["state"]) == (got["headers"]["webhook-id"], job_id, "delivered")
    assert [(one["outcome"], one["status"]) for one in delivery["attempts"]] == [("delivered", 200)]


def test_every_end_has_its_type_and_only_what_was_asked_for_is_told(telling: Gateway, receiver: Receiver) -> None:
    made(telling, receiver.url("200"))
    made(telling, receiver.url("201"), events=["analysis.failed", "analysis.failed"])
    telling.post()
    telling.succeed()
    telling.post()
    telling.worker.fail(telling.claim(), Failure.of(MediaNoVideoStream("streams found: audio")))
    telling.http.post(f"/v1/analyses/{telling.post()['id']}:cancel").raise_for_status()
    assert receiver.gets(3, "200")
    types = sorted(json.loads(one["body"])["type"] for one in receiver.got("200"))
    assert types == ["analysis.canceled", "analysis.failed", "analysis.succeeded"]
    assert receiver.gets(1, "201")
    assert [json.loads(one["body"])["data"]["state"] for one in receiver.got("201")] == ["failed"]


def test_nothing_is_told_that_ended_before(telling: Gateway, receiver: Receiver) -> None:
    telling.post()
    telling.succeed()
    time.sleep(0.1)
    webhook = made(telling, receiver.url("200"))
    telling.post()
    telling.succeed()
    assert receiver.gets(1)
    assert len(settled(telling, webhook)) == 1


def test_a_public_url_comes_before_the_path(redis_url: str, tmp_path: Path, receiver: Receiver) -> None:
    terms = Terms(public_url="https://mien.example", look_every_s=0.02)
    with running(redis_url=redis_url, data=tmp_path / "data", limits=LIMITS, egress=to_loopback(), terms=terms) as gateway:
        made(gateway, receiver.url("200"))
        job_id = gateway.post()["id"]
        gateway.succeed()
        assert receiver.gets(1)
    assert json.loads(receiver.got()[0]["body"])["data"]["url"] == f"https://mien.example/v1/analyses/{job_id}"


def test_a_test_is_told_when_it_is_asked_for(telling: Gateway, receiver: Receiver) -> None:
    webhook = made(telling, receiver.url("200"), events=["analysis.failed"])
    response = telling.http.post(f"{webhook['links']['webhook']}:test")
    assert (response.status_code, response.json()["state"]) == (202, "pending")
    assert receiver.gets(1)
    assert Webhook(webhook["secret"]).verify(receiver.got()[0]["body"], receiver.got()[0]["headers"])["type"] == "webhook.test"
    (delivery,) = settled(telling, webhook)
    assert (delivery["id"], delivery["analysis"]) == (response.json()["id"], None)


# --- when it does not go well ----------------------------------------------------------------------------------------


def test_it_is_tried_again_with_the_same_id_and_the_same_bytes(telling: Gateway, receiver: Receiver) -> None:
    webhook = made(telling, receiver.url("503/500/204"))
    telling.post()
    telling.succeed()
    assert receiver.gets(3)
    (delivery,) = settled(telling, webhook)
    assert delivery["state"] == "delivered"
    assert [(one["outcome"], one["status"]) for one in delivery["attempts"]] == [("refused", 503), ("refused", 500), ("delivered", 204)]
    got = receiver.got()
    assert len({(one["headers"]["webhook-id"], one["body"]) for one in got}) == 1
    for one in got:
        Webhook(webhook["secret"]).verify(one["body"], one["headers"])
    waits_s = [later["at"] - earlier["at"] for earlier, later in pairwise(got)]
    assert waits_s[0] >= 0.05
    assert waits_s[1] >= 0.1


def test_after_the_last_try_it_has_failed_and_can_be_asked_for_again(telling: Gateway, receiver: Receiver) -> None:
    webhook = made(telling, receiver.url("500/500/500/500/200"))
    telling.post()
    telling.succeed()
    (delivery,) = settled(telling, webhook)
    assert (delivery["state"], len(delivery["attempts"]), delivery["next_ms"]) == ("failed", 4, None)
    again = telling.http.post(f"{webhook['links']['deliveries']}/{delivery['id']}:redeliver")
    assert (again.status_code, again.json()["state"]) == (202, "pending")
    (delivery,) = settled(telling, webhook)
    assert (delivery["state"], len(delivery["attempts"])) == ("delivered", 5)
    assert len({one["headers"]["webhook-id"] for one in receiver.got()}) == 1


def test_what_was_delivered_can_be_delivered_again(telling: Gateway, receiver: Receiver) -> None:
    webhook = made(telling, receiver.url("200"))
    telling.post()
    telling.succeed()
    (delivery,) = settled(telling, webhook)
    telling.http.post(f"{webhook['links']['deliveries']}/{delivery['id']}:redeliver").raise_for_status()
    assert receiver.gets(2)
    assert len({one["headers"]["webhook-id"] for one in receiver.got()}) == 1


def test_a_receiver_that_hangs_is_given_up_after_the_time_limit(telling: Gateway, receiver: Receiver) -> None:
    assert Terms().timeout_s == 15
    webhook = made(telling, receiver.url("hang"))
    telling.post()
    telling.succeed()
    (delivery,) = settled(telling, webhook)
    assert {one["outcome"] for one in delivery["attempts"]} == {"timeout"}
    assert all(400 <= one["took_ms"] < 1500 for one in delivery["attempts"])


def test_a_receiver_that_hangs_keeps_no_other_waiting(redis_url: str, tmp_path: Path, receiver: Receiver) -> None:
    terms = Terms(timeout_s=20, lease_s=30, look_every_s=0.02)
    with running(redis_url=redis_url, data=tmp_path / "data", limits=LIMITS, egress=to_loopback(), terms=terms) as gateway:
        made(gateway, receiver.url("hang"))
        made(gateway, receiver.url("200"))
        for _ in range(8):
            gateway.post()
            gateway.succeed()
        assert receiver.gets(8, "200")
        assert receiver.gets(4, "hang")
        assert len(receiver.got("hang")) == 4, "so many at once, and no more, to one webhook"


def test_redirects_are_not_followed(telling: Gateway, receiver: Receiver) -> None:
    webhook = made(telling, receiver.url(f"302/http:--127.0.0.1:{receiver.port}-200"))
    telling.post()
    telling.succeed()
    (delivery,) = settled(telling, webhook)
    assert {(one["outcome"], one["status"]) for one in delivery["attempts"]} == {("refused", 302)}
    assert receiver.got("200") == []


def test_gone_disables_the_webhook(telling: Gateway, receiver: Receiver) -> None:
    webhook = made(telling, receiver.url("410"))
    telling.post()
    telling.succeed()
    (delivery,) = settled(telling, webhook)
    assert (delivery["state"], len(delivery["attempts"])) == ("failed", 1)
    now = telling.get(webhook["links"]["webhook"])
    assert (now["state"], now["disabled_by"]) == ("disabled", "receiver")
    telling.post()
    telling.succeed()
    time.sleep(0.3)
    assert len(receiver.got()) == 1
    refused = telling.http.post(f"{webhook['links']['webhook']}:test")
    assert (refused.status_code, refused.json()["code"]) == (409, "webhook-disabled")


def test_a_receiver_that_asks_for_time_gets_it(telling: Gateway, receiver: Receiver) -> None:
    made(telling, receiver.url("429/200"))
    telling.post()
    telling.succeed()
    assert receiver.gets(2)
    first, second = receiver.got()
    assert second["at"] - first["at"] >= 1.0


def test_nobody_there_is_a_failure_like_any_other(telling: Gateway) -> None:
    webhook = made(telling, "http://127.0.0.1:1/")
    telling.post()
    telling.succeed()
    (delivery,) = settled(telling, webhook)
    assert {one["outcome"] for one in delivery["attempts"]} == {"unreachable"}


# --- webhooks of a tenant --------------------------------------------------------------------------------------------


def test_the_secret_is_said_once_and_kept_where_no_one_else_reads(telling: Gateway, receiver: Receiver) -> None:
    webhook = made(telling, receiver.url("200"))
    assert webhook["secret"].startswith("whsec_")
    for path in (webhook["links"]["webhook"], "/v1/webhooks", webhook["links"]["deliveries"]):
        assert webhook["secret"][10:] not in telling.http.get(path).raise_for_status().text
    assert (telling.data / "webhooks").stat().st_mode & 0o077 == 0


def test_a_changed_secret_signs_beside_the_one_before_until_that_is_over(
    telling: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert signing.OVERLAP_MS == 24 * 3600 * 1000
    monkeypatch.setattr(signing, "OVERLAP_MS", 1500)
    first = made(telling, receiver.url("200"))
    second = telling.http.post(f"{first['links']['webhook']}:rotate").raise_for_status().json()
    assert second["secret"] != first["secret"]
    assert second["secret_rotates_ms"] is not None
    telling.http.post(f"{first['links']['webhook']}:test").raise_for_status()
    assert receiver.gets(1)
    (got,) = receiver.got()
    assert len(got["headers"]["webhook-signature"].split()) == 2
    for webhook in (first, second):
        Webhook(webhook["secret"]).verify(got["body"], got["headers"])
    time.sleep(1.6)
    telling.http.post(f"{first['links']['webhook']}:test").raise_for_status()
    assert receiver.gets(2)
    got = receiver.got()[-1]
    Webhook(second["secret"]).verify(got["body"], got["headers"])
    with pytest.raises(WebhookVerificationError):
        Webhook(first["secret"]).verify(got["body"], got["headers"])
    assert telling.get(first["links"]["webhook"])["secret_rotates_ms"] is None


def test_what_is_disabled_is_told_nothing_until_it_is_enabled(telling: Gateway, receiver: Receiver) -> None:
    webhook = made(telling, receiver.url("200"))
    path = webhook["links"]["webhook"]
    assert telling.http.post(f"{path}:disable").raise_for_status().json()["disabled_by"] == "client"
    telling.post()
    telling.succeed()
    time.sleep(0.3)
    assert telling.http.post(f"{path}:enable").raise_for_status().json()["state"] == "enabled"
    telling.post()
    telling.succeed()
    assert receiver.gets(1)
    assert len(settled(telling, webhook)) == 1


def test_a_deleted_webhook_is_gone_with_its_deliveries(telling: Gateway, receiver: Receiver) -> None:
    webhook = made(telling, receiver.url("200"))
    telling.post()
    telling.succeed()
    settled(telling, webhook)
    path = webhook["links"]["webhook"]
    assert telling.http.delete(path).status_code == 204
    for gone in (path, webhook["links"]["deliveries"]):
        assert telling.http.get(gone).json()["code"] == "webhook-not-found"
    assert telling.http.delete(path).status_code == 404
    assert telling.get("/v1/webhooks") == {"webhooks": []}


def test_what_was_told_about_a_deleted_analysis_is_forgotten(telling: Gateway, receiver: Receiver) -> None:
    webhook = made(telling, receiver.url("200"))
    job_id = telling.post()["id"]
    telling.succeed()
    (delivery,) = settled(telling, webhook)
    telling.http.delete(f"/v1/analyses/{job_id}").raise_for_status()
    assert deliveries(telling, webhook) == []
    path = f"{webhook['links']['deliveries']}/{delivery['id']}"
    assert telling.http.get(path).json()["code"] == "delivery-not-found"
    assert telling.http.post(f"{path}:redeliver").json()["code"] == "delivery-not-found"


def test_one_delivery_can_be_read_by_itself(telling: Gateway, receiver: Receiver) -> None:
    webhook = made(telling, receiver.url("200"))
    telling.post()
    telling.succeed()
    (delivery,) = settled(telling, webhook)
    assert telling.get(f"{webhook['links']['deliveries']}/{delivery['id']}") == delivery


def test_one_tenants_webhooks_are_nobody_elses_and_hear_of_nobody_else(redis_url: str, tmp_path: Path, receiver: Receiver) -> None:
    keys = callers(tmp_path / "keys")
    mine, theirs = keys.headers["client"], keys.headers["client of another tenant"]
    more: Any = {"egress": to_loopback(), "terms": HASTY, "guard": Guard(keys.keys)}
    with running(redis_url=redis_url, data=tmp_path / "data", limits=LIMITS, **more) as gateway:
        made = gateway.http.post("/v1/webhooks", json={"url": receiver.url("200")}, headers=mine).raise_for_status().json()
        here = made["links"]["webhook"]
        refused = [
            gateway.http.request(method, f"{here}{rest}", headers=theirs)
            for method, rest in [
                *(("GET", ""), ("DELETE", ""), ("GET", "/deliveries"), ("GET", "/deliveries/msg_1")),
                *(("POST", f":{verb}") for verb in ("rotate", "disable", "enable", "test")),
                ("POST", "/deliveries/msg_1:redeliver"),
            ]
        ]
        assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(404, "webhook-not-found")}
        assert gateway.http.get("/v1/webhooks", headers=theirs).json() == {"webhooks": []}
        for headers in (theirs, mine):
            posted = gateway.http.post("/v1/analyses", content=VIDEO, headers={**RAW, **headers}).raise_for_status().json()
            gateway.succeed()
        assert receiver.gets(1)
        time.sleep(0.3)
        assert [json.loads(one["body"])["data"]["id"] for one in receiver.got()] == [posted["id"]]


def test_what_came_of_it_is_counted(telling: Gateway, receiver: Receiver) -> None:
    webhook = made(telling, receiver.url("503/200"))
    telling.post()
    telling.succeed()
    settled(telling, webhook)
    text = telling.http.get("/metrics").text
    assert 'mien_webhook_tries_total{outcome="refused"} 1.0' in text
    assert 'mien_webhook_tries_total{outcome="delivered"} 1.0' in text
    assert 'mien_webhook_deliveries_pending{state="made"} 0.0' in text


def test_there_are_so_many_webhooks_and_no_more(telling: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MOST_OF_TENANT", 2)
    kept = [made(telling, receiver.url("200"))["id"] for _ in range(2)]
    refused = telling.http.post("/v1/webhooks", json={"url": receiver.url("200")})
    assert (refused.status_code, refused.json()["quota"]) == (429, "webhooks")
    assert [one["id"] for one in telling.get("/v1/webhooks")["webhooks"]] == kept


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"url": 3}', b'{"url": "https://a.example", "events": []}', b'{"url":"x","no":1}'])
def test_what_is_not_valid_is_said(telling: Gateway, body: bytes) -> None:
    response = telling.http.post("/v1/webhooks", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (422, "validation-failed")


def test_a_body_has_a_size(telling: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    body = b'{"url": "' + b"x" * 20_000 + b'"}'
    response = telling.http.post("/v1/webhooks", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (413, "body-too-large")
    assert "unhandled error" not in caplog.text


@pytest.mark.parametrize("webhook_id", ["wh_" + 32 * "0", "wh_1", "..%2F..%2Fetc", "*"])
def test_what_is_unknown_is_not_found(telling: Gateway, webhook_id: str) -> None:
    response = telling.http.get(f"/v1/webhooks/{webhook_id}")
    assert response.status_code == 404


def test_webhooks_outlive_a_redis_that_lost_everything(telling: Gateway, receiver: Receiver, redis_url: str) -> None:
    webhook = made(telling, receiver.url("200"))
    with redis.Redis.from_url(redis_url) as raw:
        raw.flushall()
    telling.post()
    telling.succeed()
    assert receiver.gets(1)
    assert telling.get("/v1/webhooks")["webhooks"][0]["id"] == webhook["id"]
