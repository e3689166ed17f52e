"""The pipe between worker and decoder, from both its ends."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from services.preprocess.decode import wire
from services.preprocess.decode.frames import Frame
from services.preprocess.decode.wire import Ended, Hearer, Opened, Speaker
from shared.results import Media

ROOT = Path(__file__).parents[3]
SIZE = (640, 480)
ENDED = Ended(
    media=Media(duration_ms=40, width=640, height=480, frames_decoded=1, codec="h264", container="avi", rotation_degrees=0), warnings=()
)


@pytest.mark.parametrize("module", ["decode.decoding", "decode.wire", "harvest.material", "harvest.videos"])
def test_the_workers_side_has_no_ffmpeg(module):
    script = f"import sys; sys.path.insert(0, sys.argv[1]); import services.preprocess.{module}; raise SystemExit('av' in sys.modules)"
    subprocess.run([sys.executable, "-I", "-c", script, ROOT], check=True, timeout=60)


def test_a_sign_of_life_neither_waits_for_a_frame_nor_garbles_it(monkeypatch):
    """A frame that fills the pipe is being shown, by another thread, to a worker that does not look."""
    monkeypatch.setattr(wire, "SIGN_OF_LIFE_S", 0)
    heard, said = os.pipe()
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    with os.fdopen(said, "wb") as pipe:
        speaker = Speaker(pipe)
        speaker.say(Opened(width=SIZE[0], height=SIZE[1], expected_frames=1, confined=True))
        showing = threading.Thread(target=lambda: speaker.show(Frame(pts_ms=7, rgb_hwc=pixels)))
        showing.start()
        time.sleep(0.1)
        began = time.monotonic()
        for _ in range(1000):
            speaker.live()
        assert time.monotonic() - began < 1
        assert showing.is_alive()
        hearer = Hearer(heard, silence_s=5, wait_s=5)
        assert isinstance(hearer.hear(), Opened)
        frame = hearer.hear()
        showing.join()
        speaker.live()
        speaker.say(ENDED)
    assert isinstance(frame, Frame)
    assert (frame.pts_ms, np.array_equal(frame.rgb_hwc, pixels)) == (7, True)
    assert hearer.hear() == ENDED
    with pytest.raises(EOFError):
        hearer.hear()
    os.close(heard)
