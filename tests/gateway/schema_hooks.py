"""What Schemathesis is told about the gateway; it loads this by itself, see `schemathesis.toml`."""

import schemathesis

from services.gateway.tus.headers import MEDIA_TYPE
from services.web.problems import PROBLEM_JSON

OF_UVICORN = (400, b"Invalid HTTP request received.")
"""What is no HTTP never reaches Mien, so the server answers it in its own words."""
UNKNOWN_HEADER = "x-schemathesis-unknown-property"

schemathesis.serializer.alias(MEDIA_TYPE, "application/octet-stream")


@schemathesis.check
def problem_json(_context: schemathesis.CheckContext, response: schemathesis.Response, _case: schemathesis.Case) -> None:
    """Whatever goes wrong is said in one shape."""
    if response.status_code < 400 or (response.status_code, response.content) == OF_UVICORN:
        return
    kind = response.headers.get("content-type", [""])[0]
    assert kind.startswith(PROBLEM_JSON), f"{response.status_code} is of the type {kind or 'none'}"


@schemathesis.hook
def filter_case(_context: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    """A header that nobody has heard of is no mistake: HTTP has it ignored, and proxies add theirs."""
    return UNKNOWN_HEADER not in (case.headers or {})
