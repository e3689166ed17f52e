"""Every figure that Mien claims, measured here and now.

    make bench                                                  all of them, on a clip made on the spot
    make bench ARGS="serving --video path/to/single_face.mp4"   one of them, on your own clip

Comparisons are ratios between things that ran alternately in this one run, so that a busy machine slows both.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.clip import make_clip
from tests.bench import compiling, detection, lowlight, serving, training, triton, upload
from tests.bench.figures import Figure, show

BENCHES: dict[str, Callable[[Path, Path], list[Figure]]] = {
    "serving": serving.run,
    "detection": detection.run,
    "lowlight": lowlight.run,
    "upload": upload.run,
    "triton": triton.run,
    "training": training.run,
    "compile": compiling.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", nargs="*", help=f"any of {', '.join(BENCHES)}; all by default")
    parser.add_argument("--video", type=Path, help="the clip to serve")
    asked = parser.parse_args()
    if unknown := set(asked.bench) - set(BENCHES):
        parser.error(f"there is no bench {', '.join(sorted(unknown))}")
    with TemporaryDirectory(prefix="mien-bench-") as folder:
        home = Path(folder)
        video = asked.video or home / "portrait.mp4"
        if asked.video is None:
            make_clip(video)
        show(figure for name in asked.bench or BENCHES for figure in BENCHES[name](home / name, video))


if __name__ == "__main__":
    main()
