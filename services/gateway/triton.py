"""Triton as the gateway knows it: something to ask whether a model is ready."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

import httpx

from services.web.errors import DependencyUnavailable
from services.web.health import CHECK_TIMEOUT_S
from shared.releases import GRAPHS, model_name

NOT_READY: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND})
"""Triton's own answers about a model that is not ready, or that it does not know. Any other is not Triton's."""


class Triton:
    """The model server's HTTP address."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str) -> AsyncIterator["Triton"]:
        # Triton is a neighbour: no proxy that the environment may name leads to it.
        async with httpx.AsyncClient(base_url=url, timeout=CHECK_TIMEOUT_S, trust_env=False) as http:
            yield cls(http)

    async def unready(self, version: int) -> list[str]:
        """Those of a release's models that are not ready. Raises DependencyUnavailable when Triton does not say."""
        names = [model_name(version, graph) for graph in GRAPHS]
        ready = await asyncio.gather(*map(self._is_ready, names))
        return [name for name, is_ready in zip(names, ready, strict=True) if not is_ready]

    async def _is_ready(self, name: str) -> bool:
        try:
            response = await self._http.get(f"/v2/models/{name}/ready")
        except httpx.HTTPError:
            raise DependencyUnavailable(f"{name}: the model server does not answer") from None
        if response.status_code not in NOT_READY | {HTTPStatus.OK}:
            raise DependencyUnavailable(f"{name}: the model server does not say whether it is ready")
        return response.status_code == HTTPStatus.OK
