"""What the environment may say to the training service, beside what it says to the command line. Read once, in `__main__`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from training.settings import Settings


class ServiceSettings(Settings):
    """Environment variables, each with the prefix `MIEN_`."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    training_host: str = "127.0.0.1"
    """Address to listen on."""
    training_port: int = Field(default=8090, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    api_keys: Path | None = None
    """Folder of API keys, see `services.web.keys`. Without a key in it the service listens to this machine only, and to everybody there."""
    training_runs_at_once: int = Field(default=1, ge=1)
    """Runs that are worked on at the same time; the others wait."""
    training_processes: int = Field(default=1, ge=1)
    """Processes that share a run, such as one for each GPU."""
    training_grace_s: float = Field(default=20.0, gt=0)
    """How long a process that was told to stop may take before it is killed."""
