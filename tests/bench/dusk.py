"""What the front end, as it serves, makes of a clip in the dark: faces that are fit to be judged, and tracks."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from services.preprocess.decode.frames import Frame
from services.preprocess.decode.video import open_video
from services.preprocess.faces.crop import Crop
from services.preprocess.faces.search import FaceDetector
from services.preprocess.frontend import FrontEnd
from services.preprocess.judge.sightings import Sightings
from services.preprocess.light.lowlight import DEFAULT_METHOD, Lowlight
from shared.jobs import Enhance, Options
from tests.bench.darkness import ALL_EXPOSURES, in_the_dark, named
from tests.bench.figures import Figure

SIZE: Final = 64
"""Side of the crops, in pixels: nothing is made of them here."""
WAYS: Final = {
    "auto": (DEFAULT_METHOD, Enhance.AUTO),
    "auto, by gamma": ("gamma", Enhance.AUTO),
    "never": (DEFAULT_METHOD, Enhance.NEVER),
}


def of_the_front_end(video: Path) -> Iterator[Figure]:
    """Of a clip with large faces, sampled as an analysis samples: a face in the shade is brightened where the frame as a whole is not."""
    detector = FaceDetector()
    with open_video(video) as source:
        lit = list(source.frames(Options().sample_fps))
    for exposure in ALL_EXPOSURES:
        dark = at_dusk(lit, exposure)
        for way, (method, enhance) in WAYS.items():
            front = FrontEnd(
                detector=detector, lowlight=Lowlight(method=method), options=Options(enhance=enhance), size=SIZE, sightings=Sightings()
            )
            fit = crops(front, dark)
            where = f"front end, enhance={way}, at {named(exposure)}"
            yield figure(f"{where}: faces fit to be judged", len(fit))
            yield figure(f"{where}: tracks", len({crop.track for crop in fit}))
            yield figure(f"{where}: frames brightened", front.enhancement().frames)


def at_dusk(frames: Sequence[Frame], exposure: float) -> list[Frame]:
    dark = in_the_dark([frame.rgb_hwc for frame in frames], exposure)
    return [Frame(pts_ms=frame.pts_ms, rgb_hwc=pixels) for frame, pixels in zip(frames, dark, strict=True)]


def crops(front: FrontEnd, frames: Sequence[Frame]) -> list[Crop]:
    return [crop for batch in front.batches(frames) for of_frame in front.crops(batch) for crop in of_frame]


def figure(name: str, value: float) -> Figure:
    return Figure(bench="lowlight", name=name, value=value, unit="")
