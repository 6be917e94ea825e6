"""Many small files in one piece: what the client packs and the server unpacks. A call for each would cost more than it.

Imports neither the codec nor its library, so that the client stays light.
"""

from sky.core.errors import ClientError

#: Bytes of one pack at most, and of a file that still travels in one.
MOST_PACK = 4 * 1024 * 1024
MOST_PACKED = 256 * 1024
_NAME_BYTES, _SIZE_BYTES = 64, 8


def packed(name: str, content: bytes) -> bytes:
    """One blob in a pack: its SHA-256 in hexadecimal, its size in eight big-endian bytes, its content."""
    return name.encode() + len(content).to_bytes(_SIZE_BYTES, "big") + content


def unpack(pack: bytes) -> list[tuple[str, bytes]]:
    """The blobs of a pack, by the names that they claim. Raises ClientError for one that is cut off."""
    found, at = [], 0
    while at < len(pack):
        begin = at + _NAME_BYTES + _SIZE_BYTES
        end = begin + int.from_bytes(pack[at + _NAME_BYTES : begin], "big")
        if begin > len(pack) or end > len(pack):
            raise ClientError("The pack ends in the middle of a file.")
        found.append((pack[at : at + _NAME_BYTES].decode("ascii", "replace"), pack[begin:end]))
        at = end
    return found
