"""What the environment may say to the gateway. Read once, in `__main__`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

GIB = 1024**3


class Settings(BaseSettings):
    """Environment variables, each with the prefix `MIEN_`."""

    model_config = SettingsConfigDict(env_prefix="MIEN_", env_ignore_empty=True, frozen=True, use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    api_keys: Path | None = None
    """Folder of API keys, see `services.web.keys`. Without a key in it the service listens to this machine only, and to everybody there."""
    requests_per_minute: int = Field(default=6000, gt=0)
    """Of one tenant, to one gateway. Without keys nobody is counted."""
    videos_per_day: int = Field(default=10_000, gt=0)
    """That one tenant posts, to all gateways together."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    """Where the job queue lives."""
    data: Path = Path("data")
    """The data folder, shared with the workers."""
    models: Path = Path("models")
    """The model repository, read for what the releases say about themselves."""
    trusted_keys: Path | None = None
    """PEM file of public keys, as the workers have it; with one, a release that none of them has signed is not shown."""
    triton_http: str = "http://127.0.0.1:8000"
    """Triton's HTTP address, asked only whether models are ready."""
    max_upload_bytes: int = Field(default=2 * GIB, gt=0)
    """Size of the largest video that is taken."""
