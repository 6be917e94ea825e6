"""Reading streams that survive interruptions: every piece says at which byte it ends, and reading goes on from there.

Called by the functions that follow a request or a log.
"""

from __future__ import annotations

import codecs
import json
import sys
import time
from binascii import a2b_base64
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sky.core.errors import ApiServerConnectionError, from_wire
from sky.sdk.http1 import ConnectionLost, Response

#: Seconds without any progress after which an interrupted stream is given up.
GIVE_UP_S = 60.0

#: Opens the stream from a byte on (None: from where the caller asked).
Open = Callable[[int | None], AbstractContextManager[Response]]


class Writer(Protocol):
    """Somewhere to write text."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


class Followed:
    """A stream being read: iterate over its text, then look at `status` and `code`.

    `on_frame` sees every frame before its text is given out.
    """

    def __init__(self, open_at: Open, on_frame: Callable[[dict[str, Any]], None] | None = None) -> None:
        self._open = open_at
        self._on_frame = on_frame
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.offset: int | None = None
        self.status: str | None = None
        self.code: int | None = None

    def __iter__(self) -> Iterator[str]:
        """Text as it comes. Raises the error that ended the stream, ApiServerConnectionError if it cannot go on."""
        since = time.monotonic()
        while True:
            before = self.offset
            try:
                with self._open(self.offset) as response:
                    for line in response.lines():
                        since = time.monotonic()
                        frame = json.loads(line)
                        if frame.get("again"):
                            break
                        yield from self.take(frame)
                        if self.status is not None:
                            return
            except ConnectionLost:
                pass
            if self.offset == before and time.monotonic() - since > GIVE_UP_S:
                raise ApiServerConnectionError("The API server stopped answering in the middle of a log.")
            time.sleep(0.05)

    def take(self, frame: dict[str, Any]) -> Iterator[str]:
        """The text of one frame; what it says besides is noted. Raises the error that it carries."""
        if self._on_frame is not None:
            self._on_frame(frame)
        if "error" in frame:
            raise from_wire(frame["error"])
        data = frame["t"].encode() if "t" in frame else a2b_base64(frame["b"]) if "b" in frame else b""
        if "o" in frame:
            self.offset = frame["o"]
        ended = "end" in frame
        text = self._decoder.decode(data, ended)
        if text:
            yield text
        if ended:
            self.status = frame["end"]
            self.code = frame.get("code")

    def lines(self) -> Iterator[str]:
        """The text line by line, with line ends."""
        rest = ""
        for text in self:
            *complete, rest = (rest + text).split("\n")
            for line in complete:
                yield line + "\n"
        if rest:
            yield rest

    def copy_to(self, output: Writer | None) -> None:
        """Write all of it to `output` (None: standard output), each piece at once."""
        for text in self:
            self.write(text, output)

    @staticmethod
    def write(text: str, output: Writer | None) -> None:
        """Write to `output` (None: standard output) at once."""
        target = sys.stdout if output is None else output
        target.write(text)
        target.flush()
