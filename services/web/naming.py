"""How an address names one of many, such as `/v1/analyses/an_1`.

What follows a colon is something to be done with it (AIP-136), such as `/v1/analyses/an_1:cancel`. That is an address of its own, which
takes methods of its own; a plain `/{analysis_id}` would take it for an analysis with a strange name.
"""

from typing import Final

from starlette.convertors import StringConvertor, register_url_convertor

NAME: Final = "name"


class NameConvertor(StringConvertor):
    """Anything up to a slash or a colon."""

    regex = "[^/:]+"


register_url_convertor(NAME, NameConvertor())


def one(parameter: str) -> str:
    """The path of a route that has other addresses behind a colon."""
    return f"/{{{parameter}:{NAME}}}"
