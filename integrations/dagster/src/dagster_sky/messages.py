"""Messages of Dagster Pipes in the log of a job: no storage that both sides reach is needed.

A process that calls `open_dagster_pipes()` prints each message as a line; `LogLines` picks these out of the log and
passes the rest on. Called by `SkyPipesClient`.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from dagster import PipesMessageReader
from dagster_pipes import PipesDefaultMessageWriter

if TYPE_CHECKING:
    from dagster import PipesMessageHandler

#: How every message begins. Something may stand before it: the log's own prefix, or what was printed without an end.
_MARK = '{"__dagster_pipes_version"'
#: A longer line is passed on in pieces and never read as a message: what a node says is bounded here.
MOST_CHARS = 4_000_000
#: Lines that an error repeats, and characters of each.
LAST_LINES = 20
_LINE_CHARS = 500


class SkyLogMessageReader(PipesMessageReader):
    """Reads messages from the log of the job; of several nodes, those of the head."""

    def __init__(self) -> None:
        self._handler: PipesMessageHandler | None = None

    @contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[dict[str, Any]]:
        """Tell the process to print its messages."""
        self._handler = handler
        try:
            yield {PipesDefaultMessageWriter.STDIO_KEY: PipesDefaultMessageWriter.STDOUT}
        finally:
            self._handler = None

    def no_messages_debug_text(self) -> str:
        """What to look at when nothing came."""
        return (
            "Looked for messages in the log of the Sky job. The program has to call `open_dagster_pipes()` "
            "(pip install dagster-pipes, in the task's `setup`) and its standard output must not be redirected."
        )

    def take(self, line: str) -> str | None:
        """What is left of a line when its message has been handled; None if it was a message and nothing else."""
        at = line.find(_MARK)
        if at < 0 or self._handler is None:
            return line
        try:
            message, end = json.JSONDecoder().raw_decode(line, at)
        except (ValueError, RecursionError):
            return line
        before, after = line[:at], line[end:].strip()
        if ", rank=" in before and ", rank=0," not in before:
            return None
        try:
            self._handler.handle_message(message)
        except Exception:  # noqa: BLE001 - a message that Dagster cannot use is told and does not end the run
            self._handler.report_pipes_framework_exception(f"{type(self).__name__} reading a message", sys.exc_info())
            return line
        # Of what stood before, the log's own prefix alone says nothing.
        said = before.rstrip()
        only_prefix = said.startswith("(") and said.endswith(")") and "pid=" in said
        return None if (only_prefix or not said) and not after else f"{before}{after}"


class LogLines:
    """A stream that takes a run's text: messages go to their reader, all other lines to `output`.

    Whatever comes in pieces is joined to lines; `close` gives out the last. `last` holds the last lines.
    """

    def __init__(self, reader: SkyLogMessageReader | None = None, output: TextIO | None = None) -> None:
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self._reader, self._output = reader, output
        self._pieces: list[str] = []
        self._size = 0

    def write(self, text: str) -> None:
        """Take some text."""
        *lines, rest = text.split("\n")
        for line in lines:
            self._line("".join([*self._pieces, line]))
            self._pieces, self._size = [], 0
        if rest:
            self._pieces.append(rest)
            self._size += len(rest)
        if self._size > MOST_CHARS:
            self._say("".join(self._pieces))
            self._pieces, self._size = [], 0

    def flush(self) -> None:
        """Lines are given out when they end."""

    def close(self) -> None:
        """Give out a last line without an end."""
        if self._pieces:
            self._line("".join(self._pieces))
            self._pieces, self._size = [], 0

    def _line(self, line: str) -> None:
        left = self._reader.take(line) if self._reader is not None else line
        if left is not None:
            self._say(left)

    def _say(self, line: str) -> None:
        if line.strip():
            self.last.append(line[:_LINE_CHARS])
        # Looked up anew each time: Dagster captures a step's output by putting another stream in its place.
        output = self._output or sys.stdout
        output.write(f"{line}\n")
        output.flush()
