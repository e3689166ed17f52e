"""The environment of a program, for people: what they need to do by hand what the program does."""

import shlex
from collections.abc import Mapping

from pydantic_settings import BaseSettings


def read_by(settings: type[BaseSettings], environment: Mapping[str, str]) -> dict[str, str]:
    """What of an environment these settings read."""
    names = {f"{settings.model_config['env_prefix']}{name}".upper() for name in settings.model_fields}
    return {name: value for name, value in environment.items() if name in names}


def for_a_shell(environment: Mapping[str, str]) -> str:
    """Lines that a shell reads with `set -a`, whatever the values are."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(environment.items()))
