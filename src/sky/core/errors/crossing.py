"""How a failure crosses a process boundary: as its class name, its message and a few plain details.

The server and the store write failures with ``to_wire``; the client and the store read them with ``from_wire``.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping

from sky.core.errors import tree
from sky.core.errors.tree import CloudError, SkyError

#: Built-in exceptions that keep their class on the other side.
_BUILTINS: Mapping[str, type[Exception]] = {
    cls.__name__: cls
    for cls in (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        RuntimeError,
        NotImplementedError,
        OSError,
        FileNotFoundError,
        FileExistsError,
        NotADirectoryError,
        PermissionError,
        TimeoutError,
        ConnectionError,
    )
}

#: An exception may hold exceptions (``failover_history``); deeper nesting than this is cut off as text.
_MAX_DEPTH = 4

_EXCEPTION_KEY = "$exception"


def _subclasses(cls: type[SkyError]) -> Iterable[type[SkyError]]:
    yield cls
    for sub in cls.__subclasses__():
        yield from _subclasses(sub)


def error_classes() -> dict[str, type[SkyError]]:
    """Return every class of the tree by name; a subclass defined elsewhere does not cross the wire."""
    return {cls.__name__: cls for cls in _subclasses(SkyError) if cls.__module__ == tree.__name__}


def _plain(value: object, depth: int) -> object:
    """Return the JSON-safe form of a detail; what has none becomes its text."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, enum.Enum):
        return _plain(value.value, depth)
    if isinstance(value, int | float):
        return value if math.isfinite(value) else str(value)
    if depth >= _MAX_DEPTH:
        return str(value)
    if isinstance(value, Exception):
        return {_EXCEPTION_KEY: _dump(value, depth + 1)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth + 1) for item in value]
    return str(value)


def _message(exc: BaseException) -> str:
    # str() of a KeyError is the repr of its argument; the reader wants the words.
    if isinstance(exc, KeyError) and len(exc.args) == 1:
        return str(exc.args[0])
    return str(exc)


def _dump(exc: BaseException, depth: int) -> dict[str, object]:
    fields = exc.WIRE_FIELDS if isinstance(exc, SkyError) else {}
    details = {name: _plain(getattr(exc, name, default), depth) for name, default in fields.items()}
    return {"type": type(exc).__name__, "message": _message(exc), "details": details}


def to_wire(exc: BaseException) -> dict[str, object]:
    """Return the JSON-safe form of an exception: ``{"type", "message", "details"}``; no traceback, no code."""
    return _dump(exc, 0)


def _revive(value: object, default: object, depth: int) -> object:
    """Return a received detail in the shape its default has, or the default where the shape differs."""
    if isinstance(value, list):
        value = [_revive(item, None, depth + 1) for item in value]
    elif isinstance(value, dict) and set(value) == {_EXCEPTION_KEY}:
        return _load(value[_EXCEPTION_KEY], depth + 1)
    if default is None:
        return value
    if isinstance(default, tuple):
        return tuple(value) if isinstance(value, list) else default
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is type(default):
        return value
    return list(default) if isinstance(default, list) else default


def _load(data: object, depth: int) -> Exception:
    if not isinstance(data, Mapping) or depth > 2 * _MAX_DEPTH:
        return CloudError(f"Unreadable error from the other side: {str(data)[:200]}")
    name = str(data.get("type") or "")
    message = str(data.get("message") or "")
    builtin = _BUILTINS.get(name)
    if builtin is not None:
        return builtin(message)
    cls = error_classes().get(name)
    if cls is None:
        return CloudError(message, error_type=name)
    details = data.get("details")
    details = details if isinstance(details, Mapping) else {}
    # Constructors take their own arguments and compose the message; here the message is already composed.
    exc = cls.__new__(cls, message)
    for field, default in cls.WIRE_FIELDS.items():
        setattr(exc, field, _revive(details.get(field, default), default, depth))
    return exc


def from_wire(data: object) -> Exception:
    """Return the exception that ``to_wire`` described, of the same class; an unknown class becomes ``CloudError``.

    Never raises and runs nothing of what it was sent, whatever that is.
    """
    return _load(data, 0)
