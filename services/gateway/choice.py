"""The release that a client asks for by its version: refused on submission when no worker could judge with it."""

import asyncio
from itertools import islice
from typing import Final

from anyio import to_thread

from services.gateway.published import Models
from services.gateway.triton import Triton
from services.web.errors import DependencyUnavailable
from shared.errors import ModelContractMismatch, ModelVersionUnavailable, ReleaseError
from shared.releases import Release, check_servable

NAMED: Final = 10
"""Versions that a refusal offers instead, at most: the newest."""


async def require_servable(version: int | None, *, models: Models, triton: Triton) -> None:
    """Raises ModelVersionUnavailable, with the versions that are `available`, unless the release is published and loaded.

    None is the champion, which the job waits for. So it does for a model server that does not answer now: it may when the job's
    turn comes.
    """
    if version is None:
        return
    if not await to_thread.run_sync(is_published, models, version):
        reason = "is not published"
    elif not await may_be_loaded(triton, version):
        reason = "is published, but not loaded"
    else:
        return
    available = await servable(models, triton)
    raise ModelVersionUnavailable(f"release {version} {reason}", available=available)


async def servable(models: Models, triton: Triton) -> tuple[int, ...]:
    """The newest releases that a job can be pinned to now, newest first."""
    versions = await to_thread.run_sync(newest_published, models)
    loaded = await asyncio.gather(*(may_be_loaded(triton, version) for version in versions))
    return tuple(version for version, is_loaded in zip(versions, loaded, strict=True) if is_loaded)


async def may_be_loaded(triton: Triton, version: int) -> bool:
    """False only when Triton says that it is not."""
    try:
        return not await triton.unready(version)
    except DependencyUnavailable:
        return True


def is_published(models: Models, version: int) -> bool:
    """Whether there is such a release, and as far as can be seen from here nothing is wrong with it."""
    try:
        return fits(models.read(version).release)
    except ReleaseError:
        return False


def newest_published(models: Models) -> list[int]:
    releases = (found.release for found in models.newest())
    return [release.version for release in islice(filter(fits, releases), NAMED)]


def fits(release: Release) -> bool:
    """Whether this version of the code cuts faces as the release was trained on them."""
    try:
        check_servable(release)
    except ModelContractMismatch:
        return False
    return True
