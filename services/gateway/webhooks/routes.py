"""`/v1/webhooks`: whom a tenant has told when its analyses end."""

import re
import secrets
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Final

from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Query, Response

from services.gateway import examples
from services.gateway.analyses import Client
from services.gateway.parts import Given, Parts
from services.gateway.problems import problems
from services.gateway.webhooks import messages
from services.gateway.webhooks.courier import now_ms
from services.gateway.webhooks.records import DisabledBy, EventType, Webhook
from services.gateway.webhooks.schemas import (
    EXAMPLE_DELIVERY_ID,
    EXAMPLE_ID,
    DeliveryList,
    NewWebhook,
    SecretWebhook,
    ShownWebhook,
    WebhookLinks,
    WebhookList,
    WebhookState,
    shown,
    shown_once,
    webhook_path,
)
from services.gateway.webhooks.signing import new_secret, rotated
from services.web import paging
from services.web.errors import BodyTooLarge, BodyTooSlow, DependencyUnavailable, MalformedRequest, ValidationFailed
from services.web.guard import client
from services.web.naming import one
from shared.deliveries import Attempt, Delivery, DeliveryState, Outcome
from shared.errors import DeliveryNotFound, InsufficientStorage, QuotaExceeded, WebhookDisabled, WebhookNotFound, WebhookUrlForbidden
from shared.jobs import Tenant

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], dependencies=[Depends(client)])

MOST_BYTES: Final = 16 * 1024
"""Of a request's body."""
LIST_DEFAULT, LIST_MOST = 50, 200

EXAMPLE: Final = ShownWebhook(
    id=EXAMPLE_ID,
    url="https://example.com/mien",
    events=(EventType.SUCCEEDED, EventType.FAILED),
    state=WebhookState.ENABLED,
    created_ms=examples.SUCCEEDED.created_ms - 60_000,
    links=WebhookLinks(webhook=webhook_path(EXAMPLE_ID), deliveries=f"{webhook_path(EXAMPLE_ID)}/deliveries"),
)
EXAMPLE_SECRET: Final = SecretWebhook(**dict(EXAMPLE), secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")  # noqa: S106 -- the specification's
EXAMPLE_DELIVERY: Final = Delivery(
    id=EXAMPLE_DELIVERY_ID,
    type=EventType.SUCCEEDED,
    analysis=examples.SUCCEEDED.id,
    state=DeliveryState.DELIVERED,
    created_ms=examples.SUCCEEDED.ended_ms or 0,
    attempts=(Attempt(at_ms=examples.SUCCEEDED.ended_ms or 0, took_ms=43, outcome=Outcome.DELIVERED, status=200),),
)


async def well_formed(webhook_id: Annotated[str, Path(description="The webhook, as in `id`.", examples=[EXAMPLE_ID])]) -> str:
    if not re.fullmatch(r"wh_[0-9a-f]{32}", webhook_id):
        raise WebhookNotFound
    return webhook_id


WebhookId = Annotated[str, Depends(well_formed)]
DeliveryId = Annotated[str, Path(description="The delivery, as in `id`.", examples=[EXAMPLE_DELIVERY_ID])]
ListSize = Annotated[int, Query(ge=0, description=f"Deliveries at most. 0: {LIST_DEFAULT}; more than {LIST_MOST}: {LIST_MOST}.")]


def answers(example: Any, *errors: Any, status: HTTPStatus = HTTPStatus.OK, **more: Any) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`; each may meet a storage that does not answer."""
    return {status.value: {**examples.shown(example), **more}, **problems(*errors, DependencyUnavailable)}


@router.post(
    "",
    summary="Make a webhook",
    status_code=HTTPStatus.CREATED,
    responses=answers(
        EXAMPLE_SECRET,
        *(MalformedRequest, BodyTooSlow, BodyTooLarge, ValidationFailed, WebhookUrlForbidden, QuotaExceeded, InsufficientStorage),
        status=HTTPStatus.CREATED,
        description="The webhook, and its secret.",
        headers={"Location": {"description": "The webhook.", "schema": {"type": "string", "examples": [webhook_path(EXAMPLE_ID)]}}},
    ),
)
async def create(asked: NewWebhook, response: Response, parts: Given, caller: Client) -> SecretWebhook:
    """Events are sent there by POST, signed as Standard Webhooks describe it, from now on.

    Any status of 200 to 299 within 15 seconds takes an event; redirects are not followed, and 410 disables the webhook. Otherwise it
    is tried again for three days, always with the same `webhook-id`.
    """
    await parts.egress.check(asked.url)
    webhook = Webhook(
        id=f"wh_{secrets.token_hex(16)}",
        tenant=caller.tenant,
        url=asked.url,
        events=tuple(dict.fromkeys(asked.events)),
        secrets=(new_secret(),),
        created_ms=now_ms(),
    )
    await to_thread.run_sync(parts.webhooks.add, webhook)
    response.headers["Location"] = webhook_path(webhook.id)
    return shown_once(webhook, now_ms=now_ms())


@router.get("", summary="List webhooks", responses=answers(WebhookList(webhooks=(EXAMPLE,))))
async def list_all(parts: Given, caller: Client) -> WebhookList:
    """All of them, the oldest first."""
    found = await to_thread.run_sync(parts.webhooks.of_tenant, caller.tenant)
    return WebhookList(webhooks=tuple(shown(one, now_ms=now_ms()) for one in found))


@router.get(one("webhook_id"), summary="Read a webhook", responses=answers(EXAMPLE, WebhookNotFound))
async def read(webhook_id: WebhookId, parts: Given, caller: Client) -> ShownWebhook:
    """All but its secret."""
    return shown(await known(parts, caller.tenant, webhook_id), now_ms=now_ms())


@router.delete(
    one("webhook_id"),
    summary="Remove a webhook",
    status_code=HTTPStatus.NO_CONTENT,
    responses={204: {"description": "The webhook and its deliveries are gone."}, **problems(WebhookNotFound, DependencyUnavailable)},
)
async def delete(webhook_id: WebhookId, parts: Given, caller: Client) -> None:
    """Nothing is told any more, not even what was due already."""
    await to_thread.run_sync(parts.webhooks.delete, caller.tenant, webhook_id)
    await parts.deliveries.forget(webhook_id)


@router.post("/{webhook_id}:rotate", summary="Change the secret", responses=answers(EXAMPLE_SECRET, WebhookNotFound, InsufficientStorage))
async def rotate(webhook_id: WebhookId, parts: Given, caller: Client) -> SecretWebhook:
    """For 24 hours events carry two signatures, by the new secret and by the one before."""
    at_ms = now_ms()
    webhook = await changed(parts, caller.tenant, webhook_id, lambda one: {"secrets": rotated(one.secrets, now_ms=at_ms)})
    return shown_once(webhook, now_ms=at_ms)


@router.post("/{webhook_id}:disable", summary="Disable a webhook", responses=answers(EXAMPLE, WebhookNotFound, InsufficientStorage))
async def disable(webhook_id: WebhookId, parts: Given, caller: Client) -> ShownWebhook:
    """Nothing is sent until it is enabled; what is due meanwhile fails."""
    webhook = await changed(parts, caller.tenant, webhook_id, lambda one: {"disabled_by": one.disabled_by or DisabledBy.CLIENT})
    return shown(webhook, now_ms=now_ms())


@router.post("/{webhook_id}:enable", summary="Enable a webhook", responses=answers(EXAMPLE, WebhookNotFound, InsufficientStorage))
async def enable(webhook_id: WebhookId, parts: Given, caller: Client) -> ShownWebhook:
    """What ends from now on is told again. Deliveries that failed can be asked for."""
    return shown(await changed(parts, caller.tenant, webhook_id, lambda _: {"disabled_by": None}), now_ms=now_ms())


@router.post(
    "/{webhook_id}:test",
    summary="Send a test",
    status_code=HTTPStatus.ACCEPTED,
    responses=answers(EXAMPLE_DELIVERY, WebhookNotFound, WebhookDisabled, status=HTTPStatus.ACCEPTED, description="It is sent soon."),
)
async def test(webhook_id: WebhookId, parts: Given, caller: Client) -> Delivery:
    """An event of type `webhook.test`, whatever the webhook asked for. How it went is in the delivery."""
    webhook = await known(parts, caller.tenant, webhook_id)
    require_enabled(webhook)
    message = messages.test(webhook, at_ms=now_ms())
    await parts.deliveries.test(message)
    return await parts.deliveries.get(webhook_id, message.id)


@router.get(
    "/{webhook_id}/deliveries",
    summary="List deliveries",
    responses=answers(DeliveryList(deliveries=(EXAMPLE_DELIVERY,)), WebhookNotFound, ValidationFailed),
)
async def deliveries(webhook_id: WebhookId, parts: Given, caller: Client, page_size: ListSize = 0) -> DeliveryList:
    """The newest first. The newest 200 are kept, for as long as the analysis that they are about."""
    await known(parts, caller.tenant, webhook_id)
    size = paging.page_size(page_size, default=LIST_DEFAULT, most=LIST_MOST)
    return DeliveryList(deliveries=await parts.deliveries.list(webhook_id, limit=size))


@router.get(
    "/{webhook_id}/deliveries" + one("delivery_id"),
    summary="Read a delivery",
    responses=answers(EXAMPLE_DELIVERY, WebhookNotFound, DeliveryNotFound),
)
async def delivery(webhook_id: WebhookId, delivery_id: DeliveryId, parts: Given, caller: Client) -> Delivery:
    """What came of each try."""
    await known(parts, caller.tenant, webhook_id)
    return await parts.deliveries.get(webhook_id, delivery_id)


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}:redeliver",
    summary="Deliver again",
    status_code=HTTPStatus.ACCEPTED,
    responses=answers(
        EXAMPLE_DELIVERY,
        *(WebhookNotFound, DeliveryNotFound, WebhookDisabled),
        status=HTTPStatus.ACCEPTED,
        description="It is sent soon.",
    ),
)
async def redeliver(webhook_id: WebhookId, delivery_id: DeliveryId, parts: Given, caller: Client) -> Delivery:
    """The same content under the same `webhook-id`, whatever came of it before."""
    require_enabled(await known(parts, caller.tenant, webhook_id))
    return await parts.deliveries.again(webhook_id, delivery_id)


async def known(parts: Parts, tenant: Tenant, webhook_id: str) -> Webhook:
    return await to_thread.run_sync(parts.webhooks.get, tenant, webhook_id)


async def changed(parts: Parts, tenant: Tenant, webhook_id: str, change: Callable[[Webhook], dict[str, object]]) -> Webhook:
    def apply(webhook: Webhook) -> Webhook:
        return webhook.model_copy(update=change(webhook))

    return await to_thread.run_sync(partial(parts.webhooks.change, tenant, webhook_id, apply))


def require_enabled(webhook: Webhook) -> None:
    """Raises WebhookDisabled."""
    if webhook.disabled_by:
        raise WebhookDisabled(f"by the {webhook.disabled_by}")
