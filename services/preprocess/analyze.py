"""The serving road, as the picture in the README draws it: decode, brighten, find, follow, crop, encode, judge.

Three things run at the same time: the decoder (a process of its own), the front end (here) and the model (Triton, fed by a thread).
Knows no queue and no job record; what it learns on the way it tells its listener.
"""

from pathlib import Path

from services.preprocess.decode.decoding import decoded
from services.preprocess.decode.limits import Limits
from services.preprocess.decode.standby import Standby
from services.preprocess.faces.search import FaceDetector
from services.preprocess.frontend import FrontEnd
from services.preprocess.judge.classifier import Classifier
from services.preprocess.judge.judging import Judging
from services.preprocess.judge.sightings import Sightings
from services.preprocess.light.lowlight import Lowlight
from services.preprocess.listener import Listener
from services.preprocess.stopwatch import Stopwatch
from shared.jobs import Options, Stage, Timings
from shared.releases import Release
from shared.results import ModelInfo, Result


def analyze(
    video: Path,
    *,
    job_id: str,
    options: Options,
    release: Release,
    detector: FaceDetector,
    lowlight: Lowlight,
    classifier: Classifier,
    listener: Listener,
    limits: Limits = Limits(),  # noqa: B008 -- frozen
    standby: Standby | None = None,
) -> tuple[Result, Timings]:
    """Judge every face of a video. Memory does not grow with the video's pixels, only by one feature per face and frame, and its windows.

    Raises MediaError for a video that cannot be read and InferenceError for a model that does not answer.
    """
    watch, sightings = Stopwatch(), Sightings()
    front = FrontEnd(detector=detector, lowlight=lowlight, options=options, size=release.size, sightings=sightings, watch=watch)
    judging = Judging(release=release, classifier=classifier, sightings=sightings, watch=watch)
    promised: int | None = None

    def analysing() -> None:
        expected = promised and max(promised, sightings.frames_sampled)  # a header may promise too little
        listener.progress(watch.progress(done=judging.frames_judged, expected=expected))

    def classifying() -> None:
        progress = watch.progress(done=judging.frames_judged, expected=sightings.frames_sampled)
        listener.progress(progress.model_copy(update={"stage": Stage.CLASSIFYING}))

    decoding = decoded(
        video,
        sample_fps=options.sample_fps,
        start_ms=options.start_ms,
        end_ms=options.end_ms,
        limits=limits,
        ask=analysing,
        standby=standby,
    )
    with watch.told_to(listener.stages), watch.opened("decode", decoding) as source, judging:
        promised = source.expected_frames
        for batch in front.batches(watch.timed("decode", source.frames())):
            for frame, crops in zip(batch.frames, front.crops(batch), strict=True):
                if windows := judging.send(crops, pts_ms=frame.pts_ms, ask=analysing):
                    listener.windows(windows)
            analysing()
            del batch, frame  # else they would still be held while the next ones are gathered
        media, warnings = source.media(), source.warnings
        classifying()
        windows, tracks = judging.finish(duration_ms=media.duration_ms, ask=classifying)
        listener.windows(windows)
        classifying()  # every frame is judged by now, which is what the job's record ends with
    result = Result(
        id=job_id,
        model=ModelInfo(release=release.version, preprocess=release.preprocess),
        media=media,
        coverage=sightings.coverage(),
        enhancement=front.enhancement(),
        tracks=tuple(tracks),
        warnings=(*warnings, *sightings.warnings()),
    )
    return result, watch.timings()
