"""Who is told about an analysis that runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.preprocess.stopwatch import StageTime
from shared.jobs import Progress
from shared.results import TrackWindow


@dataclass(frozen=True, kw_only=True)
class Listener:
    """What `progress` or `windows` raises stops the analysis; what `stages` raises is only logged."""

    progress: Callable[[Progress], None]
    """Called after every batch of frames, before the tracks are judged, and about every second while decoder or model is waited for."""
    windows: Callable[[Sequence[TrackWindow]], None]
    """Called with windows soon after they are judged: each once, and all of the result's."""
    stages: Callable[[Sequence[StageTime]], None] = lambda _: None
    """Called once, at the end, however the analysis ends."""
