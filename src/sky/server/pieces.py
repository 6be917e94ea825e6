"""Encoded answers in pieces: what many answers have in common is in memory once, and none is ever put together whole.

What is told of a thousand clusters takes megabytes, and it is told forty times a second while they come up. Made by
the routes, sent by `asgi`, kept by `reads`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

#: Bytes that are sent at a time.
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Pieces:
    """Bytes one after another; `len` is that of all together."""

    parts: tuple[bytes, ...]
    size: int

    def __len__(self) -> int:
        return self.size

    def within(self, before: bytes, after: bytes) -> "Pieces":
        """The same between two others."""
        return Pieces((before, *self.parts, after), len(before) + self.size + len(after))

    def chunks(self) -> Iterator[bytes]:
        """The whole, put together for sending."""
        batch: list[bytes] = []
        size = 0
        for part in self.parts:
            batch.append(part)
            size += len(part)
            if size >= _CHUNK:
                yield b"".join(batch)
                batch, size = [], 0
        yield b"".join(batch)


def pieces(encoded: bytes | Pieces) -> Pieces:
    """The same, whatever it is in."""
    return encoded if isinstance(encoded, Pieces) else Pieces((encoded,), len(encoded))


def listed(items: Sequence[bytes]) -> Pieces:
    """A JSON array of what is encoded already."""
    parts = [b"["]
    for at, item in enumerate(items):
        parts += (b",", item) if at else (item,)
    parts.append(b"]")
    return Pieces(tuple(parts), sum(map(len, items)) + max(0, len(items) - 1) + 2)
