"""What can be wrong with any request, whichever service it is for."""

from shared.errors import MienError


class RequestError(MienError):
    """The request cannot be served."""


class MalformedRequest(RequestError):
    """The request is not well-formed.

    The body is not what its Content-Type promises, or has more parts or longer headers than allowed.
    """


class NotFound(RequestError):
    """There is nothing at this address."""


class MethodNotAllowed(RequestError):
    """This address does not take this method.

    The `Allow` header names those it takes.
    """


class BodyTooLarge(RequestError):
    """The request's body is larger than the limit."""


class ValidationFailed(RequestError):
    """A parameter or a field of the body is not valid.

    `errors` names each of them.
    """


class DependencyUnavailable(RequestError):
    """A part that Mien depends on does not answer.

    `dependency` names the part.
    """

    retryable = True
