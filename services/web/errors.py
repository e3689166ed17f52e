"""What can be wrong with any request, whichever service it is for."""

from shared.errors import MienError


class RequestError(MienError):
    """The request cannot be served."""


class MalformedRequest(RequestError):
    """The request is not well-formed.

    The body is not what its Content-Type promises, or has more parts or longer headers than allowed.
    """


class Unauthenticated(RequestError):
    """The request carries no API key that is valid.

    It is sent as `Authorization: Bearer mien_...`. One that was revoked or has expired is as good as none.
    """


class Forbidden(RequestError):
    """The API key does not allow this.

    `roles` names those of which the key needs one.
    """


class UseNotPermitted(RequestError):
    """Mien may not be used for this purpose.

    Emotions of people at work or in education are not to be inferred unless for medical or safety reasons (EU AI Act, Article
    5(1)(f)), and nobody's without a declared purpose. `purpose` is what was declared for the API key.
    """


class NotFound(RequestError):
    """There is nothing at this address."""


class MethodNotAllowed(RequestError):
    """This address does not take this method.

    The `Allow` header names those it takes.
    """


class BodyTooLarge(RequestError):
    """The request's body is larger than the limit."""


class BodyTooSlow(RequestError):
    """The request's body arrives too slowly."""

    retryable = True


class ValidationFailed(RequestError):
    """A parameter or a field of the body is not valid.

    `errors` names each of them.
    """


class DependencyUnavailable(RequestError):
    """A part that Mien depends on does not answer.

    `dependency` names the part.
    """

    retryable = True
