"""Every figure that Mien claims, measured here and now.

    make bench                                                  all of them, on a clip made on the spot
    make bench ARGS="serving --video path/to/single_face.mp4"   one of them, on your own clip
    make bench ARGS="stages --picture stages.svg"               where the time goes, as a picture
    make bench ARGS="memory --minutes 5"                        a shorter video than the hour
    make bench ARGS="upload --gib 2"                            the largest body that is taken, not half of it
    make bench ARGS="lowlight --faces path/to/faces.parquet"    your own labelled faces in the dark as well

Comparisons are ratios between things that ran alternately in this one run, so that a busy machine slows both.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.clip import make_clip
from tests.bench import compiling, detection, lowlight, memory, realtime, serving, slow, stages, training, triton, upload
from tests.bench.figures import Figure, show

BENCHES: dict[str, Callable[[Path, Path], list[Figure]]] = {
    "serving": serving.run,
    "detection": detection.run,
    "lowlight": lowlight.run,
    "realtime": realtime.run,
    "memory": memory.run,
    "stages": stages.run,
    "upload": upload.run,
    "slow": slow.run,
    "triton": triton.run,
    "training": training.run,
    "compile": compiling.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", nargs="*", help=f"any of {', '.join(BENCHES)}; all by default")
    parser.add_argument("--video", type=Path, help="the clip to serve")
    parser.add_argument("--minutes", type=float, default=memory.MINUTES, help="length of the video whose memory is watched (%(default)g)")
    parser.add_argument("--gib", type=int, default=1, help="size of the body that is uploaded (%(default)s)")
    parser.add_argument("--picture", type=Path, help="where `stages` writes its picture, an SVG")
    parser.add_argument("--faces", type=Path, help="parquet file with columns image, label and subject, for `lowlight`")
    asked = parser.parse_args()
    benches = BENCHES | {
        "lowlight": partial(lowlight.run, faces=asked.faces),
        "memory": partial(memory.run, minutes=asked.minutes),
        "stages": partial(stages.run, picture=asked.picture),
        "upload": partial(upload.run, gib=asked.gib),
    }
    if unknown := set(asked.bench) - set(BENCHES):
        parser.error(f"there is no bench {', '.join(sorted(unknown))}")
    with TemporaryDirectory(prefix="mien-bench-") as folder:
        home = Path(folder)
        video = asked.video or home / "portrait.mp4"
        if asked.video is None:
            make_clip(video)
        show(figure for name in asked.bench or benches for figure in benches[name](home / name, video))


if __name__ == "__main__":
    main()
