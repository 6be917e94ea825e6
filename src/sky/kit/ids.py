"""Identifiers: random, sortable by time of birth, safe in file names and URLs.

Random bits come from the system directly: `secrets` and `uuid` take 10 ms to load, which every launch would pay.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sky.kit.derived_ids import ALPHABET

#: Where random bytes come from: the last one named.
_SOURCES: list[Callable[[int], bytes]] = [os.urandom]


@contextmanager
def drawn_from(source: Callable[[int], bytes]) -> Iterator[None]:
    """Draw all ids of this process from `source` (a count of bytes to bytes) meanwhile, so that a run can be repeated.

    For worlds that are owned alone; ids that can be guessed are not for the real one.
    """
    _SOURCES.append(source)
    try:
        yield
    finally:
        _SOURCES.remove(source)


def _random(count: int) -> bytes:
    return _SOURCES[-1](count)


def new_id(now: float) -> str:
    """A 26-character id whose first ten characters grow with `now` (seconds); 80 random bits follow."""
    millis = int(now * 1000)
    number = (millis << 80) | int.from_bytes(_random(10))
    return "".join(ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def request_id() -> str:
    """An id for a request in the form users of the interface expect: a random UUID (version 4)."""
    bits = bytearray(_random(16))
    bits[6] = bits[6] & 0x0F | 0x40
    bits[8] = bits[8] & 0x3F | 0x80
    text = bits.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def short_token(length: int = 4) -> str:
    """`length` random hexadecimal digits, for generated names."""
    return _random((length + 1) // 2).hex()[:length]
