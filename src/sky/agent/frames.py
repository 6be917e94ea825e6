"""The wire between an agent and whoever talks to it: length-prefixed frames of a JSON header and a raw body.

Used by the agent's server, by agents among themselves, and by `sky.remote.agent_client`. A frame is two big-endian
32-bit lengths (header, body), the header as a UTF-8 JSON object, then the body. Lengths are checked before a byte is
read, so a hostile peer cannot make this side allocate.
"""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any, Dict, Optional, Tuple

HEADER_LIMIT = 1 << 20
BODY_LIMIT = 8 << 20
_LENGTHS = struct.Struct(">II")

Header = Dict[str, Any]


class FrameError(Exception):
    """The bytes are not a frame: too long, cut short, or not a JSON object."""


def encode(header: Header, body: bytes = b"", *, joined: bool = True) -> bytes:
    """Return the frame as bytes; raises FrameError when a part exceeds its limit (header 1 MiB, body 8 MiB).

    Without `joined` the body is left out, which the caller writes right behind.
    """
    head = json.dumps(header, separators=(",", ":")).encode("utf-8", "surrogatepass")
    if len(head) > HEADER_LIMIT:
        raise FrameError("the header is %d bytes long, the limit is %d" % (len(head), HEADER_LIMIT))
    if len(body) > BODY_LIMIT:
        raise FrameError("the body is %d bytes long, the limit is %d" % (len(body), BODY_LIMIT))
    return b"".join((_LENGTHS.pack(len(head), len(body)), head, body if joined else b""))


async def read_frame(reader: asyncio.StreamReader) -> Optional[Tuple[Header, bytes]]:
    """Read one frame; None when the peer closed between frames, FrameError when it broke the rules."""
    try:
        lengths = await reader.readexactly(_LENGTHS.size)
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise FrameError("the connection closed inside a frame") from None
    head_size, body_size = _LENGTHS.unpack(lengths)
    if head_size > HEADER_LIMIT:
        raise FrameError("the header claims %d bytes, the limit is %d" % (head_size, HEADER_LIMIT))
    if body_size > BODY_LIMIT:
        raise FrameError("the body claims %d bytes, the limit is %d" % (body_size, BODY_LIMIT))
    try:
        head = await reader.readexactly(head_size)
        body = await reader.readexactly(body_size) if body_size else b""
    except asyncio.IncompleteReadError:
        raise FrameError("the connection closed inside a frame") from None
    return _parse(head), body


def _parse(head: bytes) -> Header:
    try:
        header = json.loads(head.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise FrameError("the header is not JSON: %s" % error) from None
    if not isinstance(header, dict):
        raise FrameError("the header is not a JSON object")
    return header
