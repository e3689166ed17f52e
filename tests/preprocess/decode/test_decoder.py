"""Inside the process that decodes: the thread that shows frames while others are decoded."""

import io
import threading
from collections.abc import Callable

import numpy as np
import pytest

from services.preprocess.decode.decoder import showing
from services.preprocess.decode.frames import Frame
from services.preprocess.decode.wire import Speaker

FRAMES = [Frame(pts_ms=at_ms, rgb_hwc=np.zeros((4, 4, 3), np.uint8)) for at_ms in range(6)]


class Breaking(io.BytesIO):
    """A pipe whose writer is out of memory once so many frames are through."""

    def __init__(self, *, after: int) -> None:
        super().__init__()
        self.shown = 0
        self._after = after

    def flush(self) -> None:
        if self.shown == self._after:
            raise MemoryError
        self.shown += 1


def hand_over_all(show: Callable[[Frame], None], *, then: Exception | None = None) -> None:
    for frame in FRAMES:
        show(frame)
    if then:
        raise then


@pytest.mark.parametrize("ahead", [1, 3, 32])
@pytest.mark.parametrize("after", [0, 2, 5])
def test_what_ends_the_thread_ends_the_decoding(ahead: int, after: int) -> None:
    """Whoever waits for a place in the queue would wait for ever, and be taken for silent."""
    pipe = Breaking(after=after)
    with pytest.raises(MemoryError), showing(Speaker(pipe), ahead=ahead) as show:  # type: ignore[arg-type]
        hand_over_all(show)
    assert pipe.shown == after
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("showing")]


def test_what_was_decoded_before_an_error_is_shown_before_it() -> None:
    pipe = Breaking(after=-1)
    with pytest.raises(ZeroDivisionError), showing(Speaker(pipe), ahead=32) as show:  # type: ignore[arg-type]
        hand_over_all(show, then=ZeroDivisionError())
    assert pipe.shown == len(FRAMES)
