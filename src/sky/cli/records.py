"""Fields of the server's records as the tables need them."""

from collections.abc import Mapping

Record = Mapping[str, object]


def text(record: Record, key: str) -> str:
    """Return a field as text, empty when it is absent; enums as their word."""
    value = record.get(key)
    return "" if value is None else str(getattr(value, "value", value))


def number(record: Record, key: str) -> float:
    """Return a field as a number, 0 when it is absent."""
    value = record.get(key)
    return float(value) if isinstance(value, int | float) else 0.0
