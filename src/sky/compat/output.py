"""`sky.sky_logging` and `sky.utils.subprocess_utils` of other versions: loggers, silence, calls side by side."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def init_logger(name: str) -> logging.Logger:
    """Return the logger of a name; who wants to see it configures logging as for any other."""
    return logging.getLogger(name)


@contextlib.contextmanager
def silent() -> Iterator[Callable[..., None]]:
    """Keep what is printed inside this block off standard output; gives a `print` that is heard all the same.

    For the whole process while the block is open, as redirecting standard output is.
    """
    out = sys.stdout

    def heard(*words: object) -> None:
        print(*words, file=out)

    with contextlib.redirect_stdout(io.StringIO()):
        yield heard


def run_in_parallel(func: Callable[[Any], Any], args: Iterable[Any], num_threads: int | None = None) -> list[Any]:
    """Call a function for each argument, several at once; the results in the order of the arguments."""
    items = list(args)
    with ThreadPoolExecutor(num_threads or min(32, len(items), (os.cpu_count() or 1) * 4) or 1) as pool:
        return list(pool.map(func, items))
