"""One job at a time, from claim to end, for as long as the process lives.

    wait for a model -> claim -> pin the release -> analyze -> write the result -> tell the queue

Jobs run in a thread of their own, so that the main thread hears a SIGTERM while a job sits in C code. Whatever goes wrong
with a job becomes a word to the queue, and the worker goes on with the next; only Redis's silence makes it wait.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol, TypeVar

from services.preprocess import metrics
from services.preprocess.champion import Champion
from services.preprocess.keeper import Keeper
from services.preprocess.listener import Listener
from services.preprocess.stopwatch import StageTime
from shared import logs
from shared.errors import DecodeCrashed, DecodeTimeout, InferenceUnavailable, InternalError, MienError, QueueUnavailable
from shared.jobs import Failure, JobState, Options, Progress, Timings
from shared.queue import Beat, Lease, WorkerQueue
from shared.releases import Release
from shared.results import Result
from shared.tracing import Span, Tracing, Untraced
from shared.videos import Videos

LOOKS_AGAIN_S: Final = 1.0
"""How often the worker looks for what does not announce itself: a signal, a lease that ran out, a model, a Redis that is back."""

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


class Analyze(Protocol):
    """The whole analysis of one video. May raise any MienError, and what the listener raises."""

    def __call__(self, video: Path, *, job_id: str, options: Options, release: Release, listener: Listener) -> tuple[Result, Timings]: ...


class LeaseLost(Exception):
    """Somebody else has the job, or it was deleted."""


class Canceled(Exception):
    """The client asked to stop."""


class Worker:
    """Runs jobs until it is told to stop."""

    def __init__(
        self,
        *,
        queue: WorkerQueue,
        videos: Videos,
        champion: Champion,
        analyze: Analyze,
        keeper: Keeper,
        tracing: Tracing | None = None,
        grace_s: float = 25.0,
        inference_deadline_s: float = 600.0,
    ) -> None:
        """
        grace_s: how long a running job may go on after `stop`, before it is handed back.
        inference_deadline_s: how long a job waits for a model before it fails.
        """
        self._queue = queue
        self._videos = videos
        self._champion = champion
        self._analyze = analyze
        self._keeper = keeper
        self._tracing = tracing or Untraced()
        self._grace_s = grace_s
        self._inference_deadline_s = inference_deadline_s
        self._stopping = False
        self._lease: Lease | None = None
        self._model_gone_since: float | None = None

    def stop(self) -> None:
        """Take no further job, and let `run` return. May be called from a signal handler: it takes no lock."""
        self._stopping = True

    def run(self) -> bool:
        """Work until `stop`. False when the last job was handed back, in the middle of which a thread may still be busy."""
        jobs = threading.Thread(target=self._work, name="jobs", daemon=True)
        with self._keeper:
            jobs.start()
            while jobs.is_alive() and not self._stopping:
                jobs.join(LOOKS_AGAIN_S / 5)
            jobs.join(self._grace_s)
            if jobs.is_alive():
                self._hand_back()
                return False
        if not self._stopping:
            raise RuntimeError("the thread that runs jobs has died")
        return True

    def _hand_back(self) -> None:
        lease = self._lease
        if lease is None:
            return
        self._keeper.drop()
        try:
            self._queue.release(lease)
            log.info("handed back", extra=about(lease))
        except QueueUnavailable as error:
            log.warning("not handed back: the job waits for its lease to run out", extra=about(lease) | why(error))

    def _work(self) -> None:
        while not self._stopping:
            try:
                self._step()
            except QueueUnavailable as error:
                log.warning("the queue does not answer", extra=why(error))
                time.sleep(LOOKS_AGAIN_S)

    def _step(self) -> None:
        """Claim only what can be run: without a model every claim would end in handing the job back."""
        release = self._champion.serving()
        if release is None:
            self._bide()
            return
        self._model_gone_since = None
        if self._stopping:  # asking the model may have taken seconds
            return
        lease = self._queue.claim()
        if lease is None:
            self._queue.wait(LOOKS_AGAIN_S)
        elif self._attempt(lease, release) == "postponed":
            time.sleep(LOOKS_AGAIN_S)

    def _bide(self) -> None:
        """Wait for a model, and fail the jobs that have waited too long. That needs no model, and no claim."""
        if self._model_gone_since is None:
            self._model_gone_since = time.monotonic()
        if time.monotonic() - self._model_gone_since >= self._inference_deadline_s:
            failed = self._queue.fail_stranded(Failure.of(InferenceUnavailable()), waited_s=self._inference_deadline_s)
            metrics.STRANDED.inc(failed)
            if failed:
                log.error("jobs failed for want of a model", extra={"jobs": failed})
        time.sleep(LOOKS_AGAIN_S)

    def _attempt(self, lease: Lease, champion: Release) -> str:
        """Run a claimed job to the end of this attempt; how it ended."""
        began = time.monotonic()
        version = lease.job.options.model_version or champion.version
        self._lease = lease
        self._keeper.hold(lease)
        try:
            with logs.about(**about(lease)), self._span(lease) as span:
                outcome = self._outcome(lease, champion, span)
                span.tell("attempt", outcome=outcome, release=version)
        finally:
            self._lease = None
            self._keeper.drop()
        seconds = time.monotonic() - began
        metrics.count_attempt(outcome, seconds, release=version)
        log.info("ended", extra=about(lease) | {"outcome": outcome, "seconds": round(seconds, 3)})
        return outcome

    def _span(self, lease: Lease) -> AbstractContextManager[Span]:
        """One for this attempt, and before it one for the wait."""
        job = lease.job
        if job.traceparent and job.started_ms is not None:
            self._tracing.record("queue", parent=job.traceparent, began_ms=job.created_ms, ended_ms=job.started_ms, job_id=job.id)
        return self._tracing.span("attempt", parent=job.traceparent, **about(lease))

    def _trace(self, span: Span, stages: Sequence[StageTime]) -> None:
        for each in stages:
            self._tracing.record(each.stage, parent=span.traceparent, began_ms=each.began_ms, ended_ms=each.ended_ms, busy_ms=each.busy_ms)

    def _outcome(self, lease: Lease, champion: Release, span: Span) -> str:
        job, attempt = lease.job, lease.attempt
        try:
            asked = job.options.model_version
            release = champion if asked is None else self._champion.asked(asked)
            lease = self._queue.pin(lease, release.version)
            log.info("begun", extra=about(lease) | {"release": release.version})
            self._videos.begin_windows(job.id, attempt)
            result, timings = self._analyze(
                self._videos.video(job.id),
                job_id=job.id,
                options=job.options,
                release=release,
                listener=Listener(
                    progress=lambda progress: self._report(lease, progress),
                    windows=lambda windows: self._videos.add_windows(job.id, attempt, windows),
                    stages=lambda stages: self._trace(span, stages),
                ),
            )
            self._videos.write_result(result, lease.token)
        except Exception as error:
            metrics.count_error(error)
            return self._give_up(lease, error)
        timings = timings.model_copy(update={"queue": waited_ms(lease)})
        if not self._told(lambda: self._queue.succeed(lease, timings, result.warnings)):
            return "lost"
        metrics.count_result(result, timings)
        return "succeeded"

    def _give_up(self, lease: Lease, error: Exception) -> str:
        """Tell the queue why an attempt has no result; how it ended."""
        queue = self._queue
        match error:
            case LeaseLost():
                return "lost"
            case Canceled():
                return "canceled" if self._told(lambda: queue.canceled(lease)) else "lost"
            case QueueUnavailable():
                return "handed back" if self._told(lambda: queue.release(lease)) else "lost"
            case InferenceUnavailable():
                log.warning("the model does not answer", extra=about(lease) | why(error))
                postponed = self._told(lambda: queue.postpone(lease, Failure.of(error), deadline_s=self._inference_deadline_s))
                return ended_as(postponed, queued="postponed")
            case DecodeCrashed() | DecodeTimeout(worked=False):
                log.warning("the decoder was stopped: %s", error, extra=about(lease) | why(error) | {"code": error.code()})
                return ended_as(self._told(lambda: queue.crashed(lease, Failure.of(error))), queued="retried")
            case MienError(retryable=False):
                log.info("failed: %s", error, extra=about(lease) | why(error) | {"code": error.code()})
                return "failed" if self._told(lambda: queue.fail(lease, Failure.of(error))) else "lost"
            case MienError():
                log.warning("to be tried again: %s", error, extra=about(lease) | why(error) | {"code": error.code()})
                return ended_as(self._told(lambda: queue.retry(lease, Failure.of(error))), queued="retried")
            case _:
                log.error("an error that nobody foresaw", extra=about(lease), exc_info=error)
                failure = Failure.of(InternalError(type(error).__name__))
                return ended_as(self._told(lambda: queue.retry(lease, failure)), queued="retried")

    def _report(self, lease: Lease, progress: Progress) -> None:
        """Show progress, and stop the analysis when it is in vain. Without Redis it goes on: the keeper sees to the lease."""
        try:
            beat = self._queue.report(lease, progress)
        except QueueUnavailable as error:
            log.warning("no progress shown", extra=about(lease) | why(error))
        else:
            stop_unless_held(beat)

    def _told(self, tell: Callable[[], Answer]) -> Answer:
        """The queue's answer, however long Redis is away: else what has ended would be begun again."""
        while True:
            try:
                return tell()
            except QueueUnavailable as error:
                log.warning("the end of the job waits for the queue", extra=why(error))
                time.sleep(LOOKS_AGAIN_S)


def stop_unless_held(beat: Beat) -> None:
    if beat == Beat.LOST:
        raise LeaseLost
    if beat == Beat.CANCEL:
        raise Canceled


def about(lease: Lease) -> dict[str, str | int]:
    """What log lines and spans say about an attempt."""
    return {"request_id": lease.job.request_id, "job_id": lease.job.id, "attempt": lease.attempt}


def why(error: MienError) -> dict[str, object]:
    """What a log line says about an error: what the vendor's own one said, which ours keeps to itself."""
    return {"reason": str(error.__cause__ or error)}


def waited_ms(lease: Lease) -> int:
    """From acceptance, by the gateway's clock, to the start of this attempt, by Redis's."""
    return max(0, (lease.job.started_ms or 0) - lease.job.created_ms)


def ended_as(state: JobState | None, *, queued: str) -> str:
    """How an attempt ended, from the state that its job is in now; None is a lost lease."""
    if state is None:
        return "lost"
    return queued if state == JobState.QUEUED else state.value
