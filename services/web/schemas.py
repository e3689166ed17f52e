"""What every service says in the same shape: problems, and how it is doing."""

from typing import Annotated

from pydantic import Field

from shared.jobs import Contract


class FieldError(Contract):
    """One parameter or field that is not valid."""

    field: Annotated[str, Field(examples=["query.sample_fps"])]
    """Where it is: `query`, `path` or `body`, and its name."""
    code: Annotated[str, Field(examples=["less_than_equal"])]
    """What is wrong with it, for machines."""
    message: Annotated[str, Field(examples=["Input should be less than or equal to 60"])]
    """What is wrong with it, for people."""


class Check(Contract):
    """How one dependency is doing."""

    ok: Annotated[bool, Field(examples=[True])]
    """Whether it answered as it must within 2 seconds."""
    ms: Annotated[int, Field(ge=0, examples=[3])]
    """How long the answer took."""
    detail: Annotated[str, Field(examples=["mien_000001_frames and mien_000001_clip are ready"])] = ""
    """What was found, for people."""


class Health(Contract):
    """The process is alive."""

    status: Annotated[str, Field(examples=["alive"])] = "alive"
    """Always `alive`."""


class Readiness(Contract):
    """Everything that the service needs for its work is there."""

    status: Annotated[str, Field(examples=["ready"])] = "ready"
    """Always `ready`; when it is not, the answer is a problem."""
    checks: Annotated[dict[str, Check], Field(examples=[{"storage": {"ok": True, "ms": 3, "detail": ""}}])]
    """Each dependency by its name."""


class Problem(Contract):
    """What went wrong (RFC 9457). Test `code`, never `title` or `detail`.

    A service whose errors say more adds optional fields: what an error's `extra` holds under their names is shown.
    """

    type: Annotated[str, Field(examples=["/problems/not-found"])]
    """Address of a page on this server that explains the code."""
    title: Annotated[str, Field(examples=["There is nothing at this address."])]
    """The code as a sentence."""
    status: Annotated[int, Field(ge=400, le=599, examples=[404])]
    """The HTTP status of this response."""
    detail: Annotated[str, Field(examples=["There is nothing at this address."])]
    """What happened this time, for people."""
    instance: Annotated[str, Field(examples=["/v1/nothing"])]
    """The path that was asked for."""
    code: Annotated[str, Field(examples=["not-found"])]
    """Stable and machine-readable."""
    retryable: Annotated[bool, Field(examples=[False])]
    """Whether the same request may succeed later without being changed."""
    request_id: Annotated[str, Field(examples=["6f1f7f0f9b5c4d0c8f9f0a1b2c3d4e5f"])]
    """As in the X-Request-Id header; name it when reporting a problem."""
    errors: Annotated[tuple[FieldError, ...] | None, Field(examples=[None])] = None
    """Of `validation-failed`: each parameter or field that is not valid."""
    dependency: Annotated[str | None, Field(examples=[None])] = None
    """Of `dependency-unavailable`: which one, by its name under /readyz; comma-separated when several."""
    roles: Annotated[tuple[str, ...] | None, Field(examples=[None])] = None
    """Of `forbidden`: the roles of which the key needs one."""
    purpose: Annotated[str | None, Field(examples=[None])] = None
    """Of `use-not-permitted`: what was declared for the key."""
    quota: Annotated[str | None, Field(examples=[None])] = None
    """Of `quota-exceeded`: what there is too much of."""
    checks: Annotated[dict[str, Check] | None, Field(examples=[None])] = None
    """Of `dependency-unavailable` from /readyz: how each dependency is doing."""
