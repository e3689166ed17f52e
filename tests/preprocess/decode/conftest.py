"""What the tests of the decoder share."""

import pytest

from services.preprocess.decode.video import open_video


@pytest.fixture
def read(number_of):
    """Read a whole clip: the numbers shown with their times, what the video was, and its warnings."""

    def read(path, sample_fps=60, **limits):
        with open_video(path, **limits) as video:
            seen = [(frame.pts_ms, number_of(frame.rgb_hwc)) for frame in video.frames(sample_fps)]
            return seen, video.media(), video.warnings

    return read
