"""From an exception to an HTTP answer. Called by the ASGI layer and by routes that keep or stream a failure."""

import logging

from sky.core import errors
from sky.kit.ids import short_token

log = logging.getLogger(__name__)

#: HTTP status by class; the first class of an exception's ancestry that is named here decides.
_STATUS: dict[type[BaseException], int] = {
    errors.ClientError: 400,
    errors.APIVersionMismatchError: 400,
    errors.ApiServerAuthenticationError: 401,
    errors.PermissionDeniedError: 403,
    errors.UserRequestRejectedByPolicy: 403,
    errors.ClusterDoesNotExist: 404,
    errors.VolumeNotFoundError: 404,
    errors.PoolDoesNotExistError: 404,
    errors.RequestAlreadyExistsError: 409,
    errors.ClusterNotUpError: 409,
    errors.ResourcesMismatchError: 409,
    errors.NotSupportedError: 422,
    errors.ServerTemporarilyUnavailableError: 503,
    errors.ConcurrentWorkerExhaustedError: 429,
    errors.SkyError: 422,
    ValueError: 400,
    PermissionError: 403,
    FileNotFoundError: 404,
    TimeoutError: 504,
    NotImplementedError: 501,
}


#: Seconds after which a call that was refused for now may be made again.
AGAIN_S = 1


class Draining(errors.ServerTemporarilyUnavailableError):
    """The server is about to end and takes on nothing new; another, or the next, one does."""


class TooLarge(errors.ClientError):
    """The request body is larger than this call accepts."""


class HeadTooLarge(errors.ClientError):
    """The request's head is larger than this server reads."""


class NoSuchRoute(errors.ClientError):
    """There is no such call."""


class WrongMethod(errors.ClientError):
    """This call is made with another method."""


class SlowBody(errors.ClientError):
    """The request body did not arrive in time."""


class LengthRequired(errors.ClientError):
    """The request is framed in a way that is not accepted."""


_STATUS |= {TooLarge: 413, HeadTooLarge: 431, NoSuchRoute: 404, WrongMethod: 405, SlowBody: 408, LengthRequired: 411}


def told(exc: BaseException) -> tuple[int, dict[str, object]]:
    """The HTTP status and wire form of a failure.

    One that nobody foresaw is logged with its traceback under an id, and the client learns the id only.
    """
    for kind in type(exc).__mro__:
        if kind in _STATUS:
            wire = errors.to_wire(exc)
            if type(exc).__module__ == __name__:
                outside = errors.ClientError if isinstance(exc, errors.ClientError) else kind
                wire["type"] = outside.__name__
            return _STATUS[kind], wire
    mark = short_token(8)
    log.error("unforeseen failure %s", mark, exc_info=exc)
    text = f"The server failed on this call (failure {mark}); its log says why: `sky api logs --server-logs`."
    return 500, errors.to_wire(errors.SkyError(text))
