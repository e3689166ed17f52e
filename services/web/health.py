"""Is everything there that a service needs? Each dependency is a check with two seconds to answer."""

import asyncio
from collections.abc import Awaitable, Mapping
from time import perf_counter
from typing import Final

from services.web.errors import DependencyUnavailable
from services.web.schemas import Check, Readiness
from shared.errors import MienError

CHECK_TIMEOUT_S: Final = 2.0


async def readiness(checks: Mapping[str, Awaitable[str]]) -> Readiness:
    """Run the checks side by side. Raises DependencyUnavailable, with how each one is doing, unless all of them pass.

    A check answers with what it found, for people. It fails by raising: of DependencyUnavailable the detail is shown, of any
    other MienError only the title.
    """
    outcomes = await asyncio.gather(*map(timed, checks.values()))
    done = dict(zip(checks, outcomes, strict=True))
    failed = [name for name, check in done.items() if not check.ok]
    if failed:
        detail = "; ".join(f"{name}: {done[name].detail}" for name in failed)
        raise DependencyUnavailable(detail, dependency=",".join(failed), checks=done)
    return Readiness(checks=done)


async def timed(check: Awaitable[str]) -> Check:
    """Run one check to its end or to the time limit."""
    started = perf_counter()
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            ok, detail = True, await check
    except TimeoutError:
        ok, detail = False, f"no answer within {CHECK_TIMEOUT_S:g} s"
    except DependencyUnavailable as error:
        ok, detail = False, error.detail
    except MienError as error:  # its detail may name hosts and paths
        ok, detail = False, error.title()
    return Check(ok=ok, ms=round((perf_counter() - started) * 1000), detail=detail)
