"""Ids that follow from another one, the same each time: whoever repeats something after a crash finds what there is.

Apart from `ids`, which draws bits from the system: what is decided in `core` may not.
"""

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u


def derived_id(id: str, what: object) -> str:
    """An id of the usual form (see `ids.new_id`), as old as `id`, for what belongs to it."""
    import hashlib  # noqa: PLC0415 - every command loads this module for the alphabet alone

    number = int.from_bytes(hashlib.sha256(f"{id}:{what}".encode()).digest()[:10])
    return id[:10] + "".join(ALPHABET[(number >> shift) & 31] for shift in range(75, -1, -5))
