"""What a launch and its job say, as lines of a task's log. A stream for the SDK; knows nothing of Airflow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

#: Lines that an error repeats, and characters of each line that are kept or told.
LAST_LINES = 20
_LONGEST = 4000
_SHOWN = 500
#: Letters of the shortest text that is hidden; fewer would be found everywhere.
_SECRET = 5


class Lines:
    """A stream that tells whole lines, and remembers the last ones.

    A connection that had to be made anew brings the text from its beginning: `again` has what is known left out.
    hidden: texts that are told as stars. Airflow's own masking knows them on the worker alone, and in no event.
    """

    def __init__(self, say: Callable[[str], object], hidden: Iterable[str] = ()) -> None:
        self._say = say
        self._hidden = sorted({each for each in hidden if len(each) >= _SECRET}, key=len, reverse=True)
        self._rest = ""
        self._seen = 0
        self._skip = 0
        self._last: deque[str] = deque(maxlen=LAST_LINES)

    def write(self, text: str) -> None:
        """Take a piece of the text."""
        if self._skip:
            skipped = min(self._skip, len(text))
            self._skip -= skipped
            text = text[skipped:]
        self._seen += len(text)
        *whole, self._rest = (self._rest + text).split("\n")
        for line in whole:
            self._tell(line)
        if len(self._rest) > _LONGEST:
            # A bar that draws itself anew has no end of line for hours.
            self._tell(self._rest)
            self._rest = ""

    def flush(self) -> None:
        """Nothing is held back but an unfinished line."""

    def begin(self) -> None:
        """Another text follows: what was said before is not what its failure is about."""
        self.finish()
        self._last.clear()
        self._seen = self._skip = 0

    def again(self) -> None:
        """The same text follows from its beginning."""
        self._skip = self._seen

    def finish(self) -> None:
        """Tell an unfinished line."""
        if self._rest:
            self._tell(self._rest)
            self._rest = ""

    @property
    def last(self) -> list[str]:
        """The last lines, shortened."""
        return list(self._last)

    def scrubbed(self, text: str) -> str:
        """A text without what is hidden."""
        for each in self._hidden:
            text = text.replace(each, "***")
        return text

    def _tell(self, line: str) -> None:
        # Of a line that was drawn over, only how it looked last is worth keeping.
        shown = line.rstrip("\r").rpartition("\r")[2].rstrip()[:_LONGEST]
        shown = self.scrubbed(shown)
        if shown:
            self._last.append(shown[:_SHOWN])
            self._say(shown)
