"""The thread that asks the model: what it holds back, what it says when the model fails, and how soon it stops."""

import threading
import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import numpy as np
import pytest

from services.preprocess.faces.crop import Crop
from services.preprocess.judge import judging as module
from services.preprocess.judge.classifier import Classifier
from services.preprocess.judge.judging import GROUP, MOST_WAITING, Judging
from services.preprocess.judge.sightings import Sightings
from services.preprocess.stopwatch import Stopwatch
from shared.errors import InferenceUnavailable
from tests.preprocess.judge import nonsense
from tests.preprocess.judge.mean_classifier import RELEASE, MeanClassifier
from tests.preprocess.judge.nonsense import Server

AT_ONCE_S = 2.0
"""Far less than a request may take, and enough for a busy machine."""


class Stopped(Exception):
    pass


def stop() -> None:
    raise Stopped


def go_on() -> None:
    """Nothing is to be said."""


def fail(_: Event) -> None:
    raise InferenceUnavailable("UNAVAILABLE")


def crops(frame: int, faces: int) -> list[Crop]:
    tensor = np.zeros((9, RELEASE.size, RELEASE.size), np.uint8)
    return [Crop(track=face, frame=frame, pts_ms=125 * frame, box=(0.1, 0.1, 0.3, 0.3), tensor=tensor) for face in range(faces)]


def judging(classifier: Any, *, watch: Stopwatch | None = None) -> Judging:
    return Judging(release=RELEASE, classifier=classifier, sightings=Sightings(), watch=watch or Stopwatch())


def send(judging: Judging, *, frames: int, faces: int = 1, ask: Callable[[], None] = go_on) -> None:
    for frame in range(frames):
        judging.send(crops(frame, faces), pts_ms=125 * frame, ask=ask)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("judging")}


@pytest.fixture(autouse=True)
def asks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASKS_EVERY_S", 0.02)


@pytest.fixture
def gate() -> Iterator[Event]:
    """What a model waits for, which is slow until this is set."""
    opened = Event()
    yield opened
    opened.set()


@pytest.fixture
def hanging() -> Iterator[tuple[Server, Classifier]]:
    """A model server that takes requests and does not answer until the test is over, and who asks it."""
    over = Event()
    with nonsense.serving(RELEASE) as server, Classifier(url=server.url, timeout_s=30) as classifier:
        server.fault = lambda *_: over.wait(30)  # type: ignore[assignment, return-value]
        yield server, classifier
        over.set()


def test_all_frames_are_judged_in_groups_whatever_is_in_them() -> None:
    asked: list[int] = []
    with judging(MeanClassifier(before=lambda _: asked.append(1))) as running:
        send(running, frames=2 * GROUP + 3)
        windows, tracks = running.finish(duration_ms=5000, ask=go_on)
        assert running.frames_judged == 2 * GROUP + 3
    assert len(asked) == 3
    assert [(track.track_id, track.frames, track.verdict.label) for track in tracks] == [("t1", 2 * GROUP + 3, "neutral")]
    assert windows[-1] == max(windows, key=lambda window: window.end_ms)


def test_frames_without_faces_need_no_model() -> None:
    with judging(MeanClassifier(before=fail)) as running:
        send(running, frames=2 * GROUP, faces=0)
        assert running.finish(duration_ms=5000, ask=go_on) == ([], [])


def test_what_the_thread_raises_reaches_who_sends() -> None:
    with judging(MeanClassifier(before=fail)) as running, pytest.raises(InferenceUnavailable):
        send(running, frames=10 * GROUP)


def test_what_the_thread_raises_reaches_who_finishes() -> None:
    with judging(MeanClassifier(before=fail)) as running:
        send(running, frames=1)
        with pytest.raises(InferenceUnavailable):
            running.finish(duration_ms=200, ask=go_on)


@pytest.mark.parametrize("faces", [0, 1, 5, 32])
def test_whoever_sends_more_than_the_model_takes_waits_himself(gate: Event, faces: int) -> None:
    """In crops, however many faces a frame has. Nobody else's frames are waited for: without faces the model is not asked."""
    held: list[int] = []

    def look() -> None:
        held.append(sum(group.size for group in running._waiting))
        if len(held) == 3:
            gate.set()

    with judging(MeanClassifier(before=lambda _: gate.wait())) as running:
        send(running, frames=4 * MOST_WAITING, faces=faces, ask=look)
        running.finish(duration_ms=125 * 4 * MOST_WAITING, ask=go_on)
        assert running.frames_judged == 4 * MOST_WAITING
    assert held or not faces, "a frame without faces may wait for the thread, too, though never for the model"
    assert all(MOST_WAITING < size <= MOST_WAITING + GROUP + 32 for size in held)


def test_who_waits_to_send_is_asked_whether_to_go_on() -> None:
    began = time.monotonic()
    with pytest.raises(Stopped), judging(MeanClassifier(before=lambda stopping: stopping.wait(30))) as running:
        send(running, frames=10 * GROUP, ask=stop)
    assert time.monotonic() - began < AT_ONCE_S
    assert threads() == set()


def test_who_waits_to_finish_is_asked_whether_to_go_on() -> None:
    began = time.monotonic()
    with judging(MeanClassifier(before=lambda stopping: stopping.wait(30))) as running:
        send(running, frames=GROUP)
        with pytest.raises(Stopped):
            running.finish(duration_ms=2000, ask=stop)
    assert time.monotonic() - began < AT_ONCE_S
    assert threads() == set()


@pytest.mark.parametrize("faces", [1, 32])
def test_leaving_calls_back_a_request_that_hangs(hanging: tuple[Server, Classifier], faces: int) -> None:
    _, classifier = hanging
    with judging(classifier) as running:
        send(running, frames=1, faces=faces)
        with pytest.raises(Stopped):
            running.finish(duration_ms=200, ask=stop)
        began = time.monotonic()
    assert time.monotonic() - began < AT_ONCE_S
    assert threads() == set()


def test_after_a_request_was_called_back_the_connection_serves_the_next_video(hanging: tuple[Server, Classifier]) -> None:
    server, classifier = hanging
    with judging(classifier) as running:
        send(running, frames=1)
        with pytest.raises(Stopped):
            running.finish(duration_ms=200, ask=stop)
    server.fault = nonsense.leave_alone
    with judging(classifier) as running:
        send(running, frames=3)
        assert len(running.finish(duration_ms=500, ask=go_on)[1]) == 1
