"""Where words go and how they look: data to stdout, talk to stderr, colour and motion only for a person watching.

Used by every command. Loads nothing heavy: `sky status` comes through here before click exists.
"""

import os
import sys
from types import TracebackType
from typing import TextIO

_COLOURS = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "cyan": 36, "dim": 2, "bold": 1}

#: Columns of a terminal that does not tell.
_UNTOLD = 120

#: Colour by status word, for clusters, jobs and requests alike, and of the mark of a choice.
STATUS_COLOURS = {
    "UP": "green",
    "RUNNING": "green",
    "SUCCEEDED": "green",
    "INIT": "blue",
    "PENDING": "blue",
    "WAITING": "blue",
    "SETTING_UP": "blue",
    "STOPPED": "yellow",
    "AUTOSTOPPING": "yellow",
    "CANCELLED": "yellow",
    "UNHEALTHY": "red",
    "FAILED": "red",
    "FAILED_SETUP": "red",
    "FAILED_DRIVER": "red",
    "✔": "green",
}


def is_terminal(stream: TextIO) -> bool:
    """Whether a person is watching this stream; False for closed ones."""
    try:
        return stream.isatty()
    except ValueError:
        return False


def colourful(stream: TextIO) -> bool:
    """Whether colour may be used: a terminal, not a dumb one, and NO_COLOR is not set."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str | None, stream: TextIO) -> str:
    """Return the text in a colour of `_COLOURS` where the stream may show it."""
    if colour is None or not colourful(stream):
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def width(stream: TextIO) -> int | None:
    """Columns of the terminal; None when there is none and lines may be of any length."""
    if not is_terminal(stream):
        return None
    # As shutil.get_terminal_size, which costs 5 ms of imports.
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told) > 0:
        return int(told)
    try:
        return os.get_terminal_size(stream.fileno()).columns or _UNTOLD
    except (OSError, ValueError):
        return _UNTOLD


def say(text: str) -> None:
    """Write a line of data to stdout."""
    sys.stdout.write(text + "\n")


def talk(text: str, colour: str | None = None) -> None:
    """Write a line of talk to stderr, after what stdout still holds so that the two stay in order on a terminal."""
    sys.stdout.flush()
    sys.stderr.write(paint(text, colour, sys.stderr) + "\n")
    sys.stderr.flush()


class Progress:
    """A stream for the talk of a request: lines pass to stderr, below them a spinner turns if a person watches.

    Use as a context manager and hand it to the SDK as `output_stream`.
    """

    FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
    INTERVAL = 0.1

    def __init__(self, caption: str, *, without: str | None = None) -> None:
        """`without`: lines that begin so are left out, because the command itself says them where they belong."""
        self._caption = caption
        self._without = without
        self._rest = ""
        self._turns = is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"

    def __enter__(self) -> "Progress":
        if self._turns:
            import threading  # noqa: PLC0415 - only a terminal needs the thread; `sky status` does not

            self._lock = threading.RLock()
            self._done = threading.Event()
            self._thread = threading.Thread(target=self._spin, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._turns:
            self._done.set()
            self._thread.join()
            self._wipe()
        sys.stderr.write(self._rest)

    def write(self, text: str) -> int:
        """Pass talk on, above the spinner."""
        if self._without is not None:
            *lines, self._rest = (self._rest + text).split("\n")
            text = "".join(line + "\n" for line in lines if not line.startswith(self._without))
        if not self._turns:
            return sys.stderr.write(text)
        with self._lock:
            self._wipe()
            return sys.stderr.write(text)

    def flush(self) -> None:
        """Show what was written."""
        sys.stderr.flush()

    def _wipe(self) -> None:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

    def _spin(self) -> None:
        turn = 0
        while not self._done.wait(self.INTERVAL):
            with self._lock:
                sys.stderr.write(f"\r\x1b[K{self.FRAMES[turn % len(self.FRAMES)]} {self._caption}")
                sys.stderr.flush()
            turn += 1
