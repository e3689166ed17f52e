"""What the environment may say to the command line and to the service. Read once, in their `__main__`."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.redis_passwords import with_password


class Settings(BaseSettings):
    """Environment variables, each with the prefix `MIEN_`."""

    model_config = SettingsConfigDict(env_prefix="MIEN_", frozen=True, use_attribute_docstrings=True)

    runs: Path = Path("runs")
    """The folder of training runs."""
    crops: Path = Path("crops")
    """The folder of crop stores."""
    models: Path = Path("models")
    """The model repository, shared with Triton."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    """Where the aliases of releases live."""
    redis_password_file: Path | None = None
    """File with the password of the user whom `redis_url` names."""
    triton_http: str = "http://127.0.0.1:8000"
    """Triton's HTTP address, for loading and warming up what is published."""
    triton_secret: str = Field(default="", repr=False)
    """Shown to a Triton that loads and unloads for whoever knows it alone; empty for one that asks nobody."""
    signing_key: Path | None = None
    """PEM file of the private key that releases are signed with; without one they are not signed."""
    trusted_keys: Path | None = None
    """PEM file of public keys; with one, what none of them has signed is refused."""
    frozen: Annotated[tuple[Path, ...], NoDecode] = ()
    """Crop stores that a candidate is measured on against the champion, named as in plans, separated by colons."""

    def redis(self) -> str:
        """The URL of Redis with the password, if there is one. Raises OSError when its file cannot be read."""
        return with_password(self.redis_url, self.redis_password_file)

    def environment(self) -> dict[str, str]:
        """The same settings for a process that this one starts."""
        given = {name: getattr(self, name) for name in Settings.model_fields if getattr(self, name) not in (None, ())}
        return {
            f"MIEN_{name.upper()}": os.pathsep.join(map(str, value)) if name == "frozen" else str(value) for name, value in given.items()
        }

    @field_validator("frozen", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(name for name in value.split(os.pathsep) if name) if isinstance(value, str) else value
