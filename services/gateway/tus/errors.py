"""What may be wrong with a resumable upload."""

from services.web.errors import RequestError


class UploadNotFound(RequestError):
    """There is no upload with this id.

    It never was, was removed, or is past the time that `Upload-Expires` named.
    """


class MismatchingUploadOffset(RequestError):
    """The upload does not go on where this request begins.

    `expected_offset` is where it does. HEAD says so at any time.
    """

    retryable = True


class UploadBusy(RequestError):
    """Another request is adding to this upload.

    Of requests that would add to it at the same time, one does. HEAD says how far it is.
    """

    retryable = True


class UploadChecksumMismatch(RequestError):
    """The bytes are not those that Upload-Checksum promises: none of them were kept."""

    retryable = True


class TusVersionUnsupported(RequestError):
    """This version of the tus protocol is not spoken here.

    `Tus-Version` names the one that is, and a request names its own in `Tus-Resumable`.
    """
