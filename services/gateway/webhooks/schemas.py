"""Webhooks as the API shows them."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from services.gateway.webhooks.records import DisabledBy, EventType, Webhook
from shared.deliveries import Delivery
from shared.jobs import Contract, Milliseconds

EXAMPLE_ID = "wh_9c1185a5c5e9fc54612808977ee8f548"
EXAMPLE_DELIVERY_ID = "msg_0c5f1b7e2a934d68b1f7c3a9e05d2f46"


class NewWebhook(Contract):
    """Whom to tell, and what."""

    url: Annotated[str, Field(max_length=2048, examples=["https://example.com/mien"])]
    """Where events are sent: `https://`, a host on the public internet, no user name."""
    events: Annotated[tuple[EventType, ...], Field(min_length=1, max_length=len(EventType), examples=[["analysis.succeeded"]])] = tuple(
        EventType
    )
    """What is told; everything, if nothing is said."""


class WebhookState(StrEnum):
    """Whether anything is sent."""

    ENABLED = "enabled"
    DISABLED = "disabled"


class WebhookLinks(Contract):
    """Where this webhook can be read and acted on, as paths on this server."""

    webhook: Annotated[str, Field(examples=[f"/v1/webhooks/{EXAMPLE_ID}"])]
    """This record. DELETE it to tell nothing more."""
    deliveries: Annotated[str, Field(examples=[f"/v1/webhooks/{EXAMPLE_ID}/deliveries"])]
    """What was told, and how it went."""


class ShownWebhook(Contract):
    """A webhook."""

    id: Annotated[str, Field(examples=[EXAMPLE_ID])]
    """128 random bits, as in its address."""
    url: Annotated[str, Field(examples=["https://example.com/mien"])]
    """Where events are sent."""
    events: Annotated[tuple[EventType, ...], Field(examples=[["analysis.succeeded"]])]
    """What is told."""
    state: WebhookState
    """While it is disabled, nothing is sent, and what happens is not told later."""
    disabled_by: Annotated[DisabledBy | None, Field(examples=[None])] = None
    """Who disabled it: `client`, or the `receiver` by answering 410."""
    created_ms: Milliseconds
    """When it was made, in Unix milliseconds. Nothing is told that happened before."""
    secret_rotates_ms: Annotated[Milliseconds | None, Field(examples=[None])] = None
    """Until when the secret before the newest signs, too; null when there is only one."""
    links: WebhookLinks
    """Where this webhook can be read and acted on."""


class SecretWebhook(ShownWebhook):
    """A webhook, with what is said once."""

    secret: Annotated[str, Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])]
    """What signs from now on, in the format of Standard Webhooks. It is not shown again."""


class WebhookList(Contract):
    """All webhooks of a tenant, the oldest first."""

    webhooks: tuple[ShownWebhook, ...]
    """All of them."""


class DeliveryList(Contract):
    """The newest deliveries of a webhook, the newest first."""

    deliveries: tuple[Delivery, ...]
    """At most `page_size` of them."""


def shown(webhook: Webhook, *, now_ms: int) -> ShownWebhook:
    return ShownWebhook.model_validate(fields(webhook, now_ms=now_ms))


def shown_once(webhook: Webhook, *, now_ms: int) -> SecretWebhook:
    return SecretWebhook.model_validate({**fields(webhook, now_ms=now_ms), "secret": webhook.secrets[0].written})


def fields(webhook: Webhook, *, now_ms: int) -> dict[str, object]:
    here = webhook_path(webhook.id)
    return {
        **webhook.model_dump(include={"id", "url", "events", "created_ms", "disabled_by"}),
        "state": WebhookState.DISABLED if webhook.disabled_by else WebhookState.ENABLED,
        "secret_rotates_ms": max((one.until_ms for one in webhook.secrets if one.until_ms and now_ms < one.until_ms), default=None),
        "links": WebhookLinks(webhook=here, deliveries=f"{here}/deliveries"),
    }


def webhook_path(webhook_id: str) -> str:
    return f"/v1/webhooks/{webhook_id}"
