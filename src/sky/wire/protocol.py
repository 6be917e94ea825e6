"""Names that client and server must spell alike: headers, ports, environment variables, limits.

Imports nothing, so that the command line can use it without loading the validation library.
"""

HEADER_API_VERSION = "X-SkyPilot-API-Version"
HEADER_VERSION = "X-SkyPilot-Version"
HEADER_REQUEST_ID = "X-Skypilot-Request-ID"
HEADER_USER = "X-Skypilot-User"
#: Sent by pages of the server along with every change.
HEADER_FORGERY = "X-Sky-Page"
COOKIE_SESSION = "sky_session"

ENV_ENDPOINT = "SKYPILOT_API_SERVER_ENDPOINT"
ENV_TOKEN = "SKYPILOT_SERVICE_ACCOUNT_TOKEN"  # noqa: S105 - the name of a variable
ENV_UPLOAD_BOUND = "SKYPILOT_MAX_UPLOAD_TOTAL_BYTES"

DEFAULT_PORT = 46580

#: The oldest interface version that this side still speaks.
MIN_API_VERSION = 1

#: Bytes of a JSON request body, and of one uploaded file or manifest.
MAX_BODY = 8 * 1024 * 1024
MAX_BLOB = 64 * 1024 * 1024 * 1024

#: Characters of a request's id, which are letters, digits and hyphens.
REQUEST_ID_LENGTHS = range(8, 129)

#: Seconds between signs of life on a stream that has nothing to say; a client gives up after three of them.
HEARTBEAT_S = 15.0
#: The longest that the server holds a request open that waits for an outcome.
LONGEST_WAIT_S = 55.0

MEDIA_JSON = "application/json"
MEDIA_FRAMES = "application/x-ndjson"
MEDIA_BYTES = "application/octet-stream"


def is_request_id(id: str) -> bool:
    """Whether a caller may give a request this id."""
    return len(id) in REQUEST_ID_LENGTHS and id.isascii() and id.replace("-", "").isalnum()
