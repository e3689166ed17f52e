"""What the environment may say to the gateway. Read once, in `__main__`."""

from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field, IPvAnyNetwork
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
    redis_password_file: Path | None = None
    """File with the password of the user whom `redis_url` names."""
    data: Path = Path("data")
    """The data folder, shared with the workers."""
    models: Path = Path("models")
    """The model repository, read for what the releases say about themselves."""
    trusted_keys: Path | None = None
    """PEM file of public keys, as the workers have it; with one, a release that none of them has signed is not shown."""
    triton_http: str = "http://127.0.0.1:8000"
    """Triton's HTTP address, asked only whether models are ready."""
    otlp_endpoint: Annotated[str, Field(validation_alias=AliasChoices("MIEN_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"))] = ""
    """Base address of an OpenTelemetry collector that takes traces over HTTP; empty for no traces."""
    max_upload_bytes: int = Field(default=2 * GIB, gt=0)
    """Size of the largest video that is taken."""
    public_url: str = ""
    """What comes before the paths that webhooks are told, such as https://mien.example."""
    webhook_http: bool = False
    """Whether webhooks may be told without encryption."""
    webhook_networks: tuple[IPvAnyNetwork, ...] = ()
    """Networks that webhooks may be in although they are not part of the public internet, as a JSON list: ["10.1.0.0/16"]."""
    webhook_proxy: str | None = None
    """Proxy through which webhooks are told, such as http://127.0.0.1:4750; it is the proxy that must keep them out of other networks.
    No other setting of the environment names one."""
    connections_per_address: int = Field(default=512, ge=0)
    """Connections that one address may have open; 0 for any number, behind a proxy that keeps count itself."""
    queued_analyses: int = Field(default=1000, gt=0)
    """Analyses that may wait; further videos are refused before they are sent, and none that waits is ever dropped."""
    queued_bytes: int = Field(default=20 * GIB, gt=0)
    """Size of all videos that wait."""
    queued_per_tenant: int = Field(default=500, gt=0)
    """Analyses of one tenant that may wait."""
