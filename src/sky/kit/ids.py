"""Identifiers: random, sortable by time of birth, safe in file names and URLs."""

import secrets
import uuid

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u


def new_id(now: float) -> str:
    """A 26-character id whose first ten characters grow with `now` (seconds); 80 random bits follow."""
    millis = int(now * 1000)
    number = (millis << 80) | secrets.randbits(80)
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def request_id() -> str:
    """An id for a request in the form users of the interface expect (a UUID)."""
    return str(uuid.uuid4())


def short_token(length: int = 4) -> str:
    """`length` random hexadecimal digits, for generated names."""
    return secrets.token_hex((length + 1) // 2)[:length]
