"""What the server writes about itself: to a file or the terminal, as text or JSON, each line with its request's id.

Set up by `server.__main__`; `api_server.log_format` in the configuration chooses the form.
"""

import json
import logging
import logging.handlers

from sky.kit.current import REQUEST
from sky.server.settings import Settings

#: Bytes of the log file before it is set aside, and how many are kept aside.
LOG_BYTES = 4 * 1024 * 1024
LOGS_ASIDE = 3


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s%(of)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        id = REQUEST.get()
        record.of = f" [{id}]" if id else ""
        return super().format(record)


class _Json(logging.Formatter):
    """One object per line: `time` (since the epoch), `level`, `logger`, `request_id`, `message`, `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": round(record.created, 6),
            "level": record.levelname,
            "logger": record.name,
            "request_id": REQUEST.get() or None,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def formatter(form: str | None) -> logging.Formatter:
    """The one for `json` or `text`. Raises ValueError for another word."""
    if form not in (None, "text", "json"):
        raise ValueError(f"api_server.log_format: {form!r} is neither text nor json")
    return _Json() if form == "json" else _Text()


def set_up_logs(settings: Settings, *, foreground: bool, form: str | None) -> None:
    """Log to the terminal, or to a file that is set aside when it has grown. Raises ValueError."""
    handler: logging.Handler
    if foreground:
        handler = logging.StreamHandler()
    else:
        handler = logging.handlers.RotatingFileHandler(
            settings.log_file, maxBytes=LOG_BYTES, backupCount=LOGS_ASIDE, encoding="utf-8"
        )
    handler.setFormatter(formatter(form))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # Every accepted and ended connection of uvicorn is no news.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    # It tells of every connection, and of every command with all of its arguments.
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
