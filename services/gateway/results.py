"""Results, read from the disk once for all the pages that they are cut into."""

from functools import lru_cache
from typing import Final

from shared.results import Result
from shared.videos import Videos

KEPT: Final = 4
"""Results in memory: one with 50,000 windows takes most of a second to read, and some 100 MB to keep."""


class Results:
    """Keeps the results that were read last. Blocking, and safe to share between threads."""

    def __init__(self, videos: Videos) -> None:
        self._videos = videos
        self._read = lru_cache(maxsize=KEPT)(lambda job_id, attempt, _written_ns: videos.read_result(job_id, attempt))

    def forget(self) -> None:
        """What was deleted is not to stay in memory, either."""
        self._read.cache_clear()

    def read(self, job_id: str, attempt: str) -> Result:
        """What this attempt found, as it is on the disk now. Raises what `Videos.read_result` does."""
        return self._read(job_id, attempt, self._videos.result_written_ns(job_id, attempt))
