"""Everything that can go wrong, as one shallow tree.

    MienError
    |- MediaError            the file's fault: never retried, becomes the job's `failure`
    |- InferenceError        Triton's or the release's fault
    |  `- InferenceUnavailable   nobody answers: the job waits, then is tried again
    |- JobError              what was asked of a job, or of the queue as it is, cannot be done
    |- StorageError          the data folder cannot take or give the bytes
    |- DecoderUnavailable    the worker's machine starts no decoder
    |- QueueUnavailable      Redis does not answer
    |- WebhookError          what was asked of a webhook cannot be done
    |- ApiKeyUnknown, ApiKeyRequired   what is asked of the keys cannot be done
    |- ReleaseError          a release folder is not what it must be
    |  `- CandidateRefused      it may not become a release: the champion serves on
    `- TrainingError         data, a plan or a run cannot be trained with
       `- DataUnusable          the data's fault

The first line of a class's docstring is the error's public title, and its name in kebab-case is the stable code that
clients test for: `MediaNoVideoStream` is `media-no-video-stream`. `detail` says what happened this time, for people only.
"""

import re
from typing import ClassVar


class MienError(Exception):
    """Something went wrong in Mien."""

    retryable: ClassVar[bool] = False
    """Whether the same request may succeed later without being changed."""

    def __init__(self, detail: str = "", **extra: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra

    @classmethod
    def code(cls) -> str:
        """The stable, kebab-case name of this error."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    @classmethod
    def title(cls) -> str:
        """The error in one public sentence: the first line of its docstring."""
        return (cls.__doc__ or "").partition("\n")[0]


# --- the uploaded file ---------------------------------------------------------------------------------------------


class MediaError(MienError):
    """The video cannot be analysed."""


class MediaEmpty(MediaError):
    """The upload holds no bytes."""


class MediaUnrecognised(MediaError):
    """The upload is not a video in any accepted container."""


class MediaNoVideoStream(MediaError):
    """The file has no video stream."""


class MediaCodecUnsupported(MediaError):
    """No decoder is allowed for the video's codec."""


class MediaCorrupt(MediaError):
    """The video is damaged before its first usable frame."""


class MediaDimensionsExceeded(MediaError):
    """The video's frames are larger than the limit."""


class MediaDurationExceeded(MediaError):
    """The video is longer than the limit."""


class MediaTimestampsInvalid(MediaError):
    """The video's frames carry no usable clock."""


class MediaContainerNotAllowed(MediaError):
    """The upload is of a kind that is recognised and not taken, such as a playlist."""


class MediaEncrypted(MediaError):
    """The video is encrypted."""


class MediaFramesExceeded(MediaError):
    """The video has more frames than the limit."""


class MediaRangeEmpty(MediaError):
    """The video has no frame in the part that was asked for."""


class DecodeTimeout(MediaError):
    """The video could not be decoded within the time limit."""

    def __init__(self, detail: str = "", *, worked: bool = False) -> None:
        """`worked`: whether the time went into decoding, and would again. Else the decoder stood still, maybe by the machine's fault."""
        super().__init__(detail)
        self.worked = worked


class DecodeMemoryExceeded(MediaError):
    """The video needs more memory to be decoded than the limit."""


class DecodeCrashed(MediaError):
    """The decoder died of the video."""


# --- the model -----------------------------------------------------------------------------------------------------


class InferenceError(MienError):
    """The model could not be asked."""


class InferenceUnavailable(InferenceError):
    """The model server does not answer, or the release is not loaded."""

    retryable = True


class InferenceRejected(InferenceError):
    """The model server refused the tensors it was sent."""


class InferenceInvalidOutput(InferenceError):
    """The model's answer has the wrong shape, or is not a number."""


# --- jobs, storage, queue ------------------------------------------------------------------------------------------


class JobError(MienError):
    """The job does not allow this."""


class JobNotFound(JobError):
    """There is no analysis with this id."""


class StateConflict(JobError):
    """The analysis is not in a state that allows this."""


class ResultNotReady(JobError):
    """The analysis has not succeeded yet, so it has no result."""

    retryable = True


class Gone(JobNotFound):
    """The analysis was here, and is no more.

    It was deleted, or its time was over. For a week its id is remembered, and nothing else.
    """


class ResultGone(JobError):
    """The result of this analysis is no longer kept."""


class ResultUnreadable(JobError):
    """The result was written by another version of Mien, and this one cannot read it."""


class AttemptsExhausted(JobError):
    """Every worker that took this job died with it."""

    retryable = True


class QueueFull(JobError):
    """As many analyses wait as the service takes on."""

    retryable = True


class QuotaExceeded(JobError):
    """As much is used as one client may.

    `quota` names what there is too much of, such as `queued-analyses`.
    """

    retryable = True


class IdempotencyKeyInvalid(JobError):
    """The Idempotency-Key is empty, or longer than 255 characters."""


class IdempotencyKeyReused(JobError):
    """The Idempotency-Key was used before, for another video or other options."""


class IdempotencyRequestInProgress(JobError):
    """A request with this Idempotency-Key is still being answered."""

    retryable = True


class InternalError(MienError):
    """Mien has a bug: please report it with the request id."""


class StorageError(MienError):
    """The data folder does not take or give the bytes."""

    retryable = True


class MediaMissing(StorageError):
    """The video is not in the data folder.

    It was deleted, or never promised to anybody, or this worker looks into another folder than the gateway.
    """

    retryable = True


class InsufficientStorage(StorageError):
    """The disk is full."""

    retryable = True


class DecoderUnavailable(MienError):
    """No decoder can be started on this machine.

    It has no process left to give, or nothing to confine a process with.
    """

    retryable = True


class QueueUnavailable(MienError):
    """The job queue does not answer."""

    retryable = True


class WebhookError(MienError):
    """The webhook does not allow this."""


class WebhookNotFound(WebhookError):
    """There is no webhook with this id."""


class DeliveryNotFound(WebhookError):
    """The webhook has no delivery with this id.

    The newest are kept, for as long as the analysis that they are about.
    """


class WebhookDisabled(WebhookError):
    """The webhook is disabled, so nothing is sent to it."""


class WebhookUrlForbidden(WebhookError):
    """Nothing is sent to this URL.

    It must begin with https://, name no user, and lead to an address on the public internet.
    """


class ApiKeyUnknown(MienError):
    """There is no API key with this id."""


class ApiKeyRequired(MienError):
    """Without an API key, a service listens to its own machine only."""


# --- releases ------------------------------------------------------------------------------------------------------


class ReleaseError(MienError):
    """The release cannot be used."""


class ModelVersionUnavailable(ReleaseError):
    """There is no release with this version in the model repository."""


class ModelDigestMismatch(ReleaseError):
    """A file of the release is not the file that was published."""


class ModelContractMismatch(ReleaseError):
    """The release does not keep the contract of names and shapes."""


class ReleaseUnsigned(ReleaseError):
    """The release carries no signature by a trusted key."""


class KeyUnusable(ReleaseError):
    """A key file cannot be used."""


class PublicationConflict(ReleaseError):
    """Somebody else is changing the model repository."""

    retryable = True


class CandidateRefused(ReleaseError):
    """The candidate does not become a release.

    `reasons` lists every check that it failed. Nothing was changed.
    """


class CandidateUnsigned(CandidateRefused):
    """The candidate carries no signature by a trusted key."""


class CandidateNotNewer(CandidateRefused):
    """The candidate's version is not above every version that was ever published."""


class CandidateHostile(CandidateRefused):
    """The candidate's folder holds something that is neither weights nor words, or that could run as code."""


class CandidateWorse(CandidateRefused):
    """The candidate does not pass the gate against the champion."""


class NothingToRollBack(ReleaseError):
    """The alias has no earlier release to go back to."""


# --- training ------------------------------------------------------------------------------------------------------


class TrainingError(MienError):
    """The training run cannot go on."""


class PlanImpossible(TrainingError):
    """The plan contradicts itself or its data."""


class DataUnusable(TrainingError):
    """The data cannot be learnt from or measured on."""


class LabelUnknown(DataUnusable):
    """The data has a label that is not one of ours."""


class ClassMissing(DataUnusable):
    """The data has no sample of a label."""


class TeacherUnsure(DataUnusable):
    """The teacher is sure of no unlabelled clip."""


class SubjectsLeak(DataUnusable):
    """A person is both learnt from and measured on."""


class PictureUnreadable(DataUnusable):
    """A picture cannot be decoded."""


class StoreExists(TrainingError):
    """There is a crop store with this name already, and a store never changes."""


class TrainingDiverged(TrainingError):
    """The loss is not a number."""


class RunMismatch(TrainingError):
    """The run's folder holds a run with another plan or other data."""


class RunNotFound(TrainingError):
    """There is no training run with this id."""


class RunConflict(TrainingError):
    """The training run is not in a state that allows this."""


class PublicationNotFound(TrainingError):
    """There is no publication with this id."""


class PublicationOver(TrainingError):
    """The publication has come too far, or has ended, and does not allow this."""
