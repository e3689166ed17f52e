"""What the environment may say to the worker. Read once, in `__main__`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Environment variables, each with the prefix `MIEN_`."""

    model_config = SettingsConfigDict(env_prefix="MIEN_", frozen=True, use_attribute_docstrings=True)

    redis_url: str = "redis://127.0.0.1:6379/0"
    """Where the job queue lives."""
    redis_password_file: Path | None = None
    """File with the password of the user whom `redis_url` names."""
    data: Path = Path("data")
    """The data folder, shared with the gateway."""
    models: Path = Path("models")
    """The model repository, shared with Triton."""
    trusted_keys: Path | None = None
    """PEM file of public keys; with one, a release that none of them has signed does not serve."""
    triton_grpc: str = "127.0.0.1:8001"
    """Triton's gRPC address."""
    otlp_endpoint: Annotated[str, Field(validation_alias=AliasChoices("MIEN_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"))] = ""
    """Base address of an OpenTelemetry collector that takes traces over HTTP; empty for no traces."""
    metrics_host: str = "127.0.0.1"
    """Address that Prometheus is answered on; in a container, 0.0.0.0."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port that Prometheus is answered on; 0 for none."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where faces are found; `auto` takes a GPU if there is one."""
    threads: int = Field(default=0, ge=0)
    """Threads that find faces on a CPU; 0 for as many as there are cores for this process."""
    max_duration_s: float = Field(default=1800.0, gt=0)
    """Length of the longest video that is analysed; a longer one fails."""
    lease_s: float = Field(default=20.0, gt=0)
    """How long a job stays with a worker that has fallen silent."""
    max_attempts: int = Field(default=10, ge=1)
    """A job whose workers died this often fails."""
    max_runtime_s: float = Field(default=7200.0, gt=0)
    """A worker that is busy with one job for longer is killed."""
    grace_s: float = Field(default=25.0, ge=0)
    """How long a running job may go on after SIGTERM before it is handed back; shorter than what the supervisor grants."""
    inference_deadline_s: float = Field(default=600.0, gt=0)
    """How long a job waits for a model before it fails."""
