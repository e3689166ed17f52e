"""Every operation that a service describes, asked for by everybody: what came of it, and what ought to have."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from shared.keys import Role
from tests.web.callers import REFUSED, Callers
from tests.web.descriptions import operations

PUBLIC = {"GET /healthz", "GET /problems", "GET /problems/{code}"}
"""All that is answered without a key, of what is described."""


@dataclass(frozen=True)
class Operation:
    """One of the description."""

    name: str
    """Method and path template."""
    roles: frozenset[str]
    """One of which opens it; empty for what is public."""

    def url(self, ids: Mapping[str, str]) -> str:
        """With `ids` for the parameters of the path, and for others one that is nobody's."""
        return re.sub(r"\{(\w+)\}", lambda match: ids.get(match[1], "1"), self.name.partition(" ")[2])

    def ask(self, http: httpx.Client, headers: Mapping[str, str], ids: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """Status, and the problem if it is one: what goes on for ever is not waited for."""
        with http.stream(self.name.partition(" ")[0], self.url(ids), headers=headers) as response:
            if response.is_success or response.has_redirect_location:
                return response.status_code, {}
            response.read()
            return response.status_code, {**response.json(), "www-authenticate": response.headers.get("WWW-Authenticate")}


def described(schema: dict[str, Any]) -> Iterator[Operation]:
    for name, operation in operations(schema):
        yield Operation(name, frozenset(role for way in operation.get("security", []) for roles in way.values() for role in roles))


def wrongly_answered(schema: dict[str, Any], http: httpx.Client, callers: Callers, ids: Mapping[str, str]) -> list[str]:
    """Every operation and caller whose answer is not what the roles promise, in words."""
    wrong = []
    for operation in described(schema):
        for who in (*REFUSED, *Role):
            status, problem = operation.ask(http, callers.headers[who], ids)
            if not as_promised(operation, who, status, problem):
                wrong.append(f"{operation.name} by {who}: {status} {problem.get('code')}")
    return wrong


def as_promised(operation: Operation, who: str, status: int, problem: Mapping[str, Any]) -> bool:
    if not operation.roles:
        return operation.name in PUBLIC and status not in {401, 403}
    if who in REFUSED:
        return (status, problem["code"], problem["www-authenticate"]) == (401, "unauthenticated", 'Bearer realm="mien"')
    if who not in operation.roles:
        return (status, problem["code"]) == (403, "forbidden") and operation.roles <= set(problem["roles"])
    return status not in {401, 403}
