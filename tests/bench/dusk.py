"""What the whole front end makes of a clip in the dark, as it ships and as it could be: faces that are fit to be judged, and tracks."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from services.preprocess.decode.frames import Frame
from services.preprocess.decode.video import open_video
from services.preprocess.faces.regions import Pixels
from services.preprocess.faces.search import FaceDetector
from services.preprocess.frontend import Crop, FrontEnd
from services.preprocess.judge.sightings import Sightings
from services.preprocess.light.lowlight import DEFAULT_METHOD, Lowlight
from shared.jobs import Enhance, Options

SIZE: Final = 64
"""Side of the crops, in pixels: nothing is made of them here."""
WAYS: Final = {
    "auto": (DEFAULT_METHOD, Enhance.AUTO),
    "auto, by gamma": ("gamma", Enhance.AUTO),
    "never": (DEFAULT_METHOD, Enhance.NEVER),
}
Darken = Callable[[Sequence[Pixels], float], list[Pixels]]


def at_dusk(video: Path, exposures: Sequence[float], *, darken: Darken) -> Iterator[tuple[str, float, int, int, int]]:
    """Way, exposure, faces fit to be judged, tracks, and frames in which something was brightened; sampled as an analysis samples."""
    detector = FaceDetector()
    with open_video(video) as source:
        lit = list(source.frames(Options().sample_fps))
    for exposure in exposures:
        dark = [
            Frame(pts_ms=frame.pts_ms, rgb_hwc=pixels)
            for frame, pixels in zip(lit, darken([frame.rgb_hwc for frame in lit], exposure), strict=True)
        ]
        for way, (method, enhance) in WAYS.items():
            front = FrontEnd(
                detector=detector, lowlight=Lowlight(method=method), options=Options(enhance=enhance), size=SIZE, sightings=Sightings()
            )
            fit = crops(front, dark)
            yield way, exposure, len(fit), len({crop.track for crop in fit}), front.enhancement().frames


def crops(front: FrontEnd, frames: Sequence[Frame]) -> list[Crop]:
    return [crop for batch in front.batches(frames) for of_frame in front.crops(batch) for crop in of_frame]
