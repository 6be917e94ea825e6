"""Reads values out of what strangers send: every field is checked for type, range and shape before it is used.

Called by the verb handlers of the server and by `spec.py`; a bad value is `Refused` with the field's name and what
was found.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Tuple

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+=-]{0,199}\Z")
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_MISSING: Any = object()


class Refused(Exception):
    """A request that cannot be carried out: `kind` names the reason for programs, the text for people."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def bad(message: str) -> Refused:
    """A refusal because a value is wrong."""
    return Refused("InvalidRequest", message)


class Fields:
    """The arguments of one request."""

    def __init__(self, values: Any, what: str = "the request") -> None:
        if not isinstance(values, dict):
            raise bad("%s must be a JSON object, found %s" % (what, type(values).__name__))
        self._values: Dict[str, Any] = values
        self._what = what

    def raw(self, name: str) -> Any:
        """The value as it came, None when absent."""
        return self._values.get(name)

    def _get(self, name: str, default: Any) -> Tuple[bool, Any]:
        value = self._values.get(name)
        if value is None:
            if default is _MISSING:
                raise bad("%s lacks the field %r" % (self._what, name))
            return False, default
        return True, value

    def _wrong(self, name: str, wanted: str, value: Any) -> Refused:
        return bad("%s: %r must be %s, found %s" % (self._what, name, wanted, type(value).__name__))

    def text(self, name: str, default: Any = _MISSING, limit: int = 1 << 20) -> Any:
        """A string of at most `limit` characters without NUL, or the default."""
        given, value = self._get(name, default)
        if not given:
            return value
        if not isinstance(value, str):
            raise self._wrong(name, "text", value)
        if len(value) > limit or "\0" in value:
            raise bad("%s: %r is longer than %d characters or holds a NUL" % (self._what, name, limit))
        return value

    def name(self, name: str, default: Any = _MISSING) -> Any:
        """A string that is safe as a file name: letters, digits and . _ : + = -, not starting with a sign."""
        value = self.text(name, default, 200)
        if isinstance(value, str) and value is not default and not _NAME.match(value):
            raise bad("%s: %r is not a plain name: %r" % (self._what, name, value[:80]))
        return value

    def integer(self, name: str, low: int, high: int, default: Any = _MISSING) -> Any:
        """A whole number within [low, high]."""
        given, value = self._get(name, default)
        if not given:
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(name, "a whole number", value)
        if not low <= value <= high:
            raise bad("%s: %r must lie between %d and %d, found %d" % (self._what, name, low, high, value))
        return value

    def number(self, name: str, low: float, high: float, default: Any = _MISSING) -> Any:
        """A number within [low, high], as float."""
        given, value = self._get(name, default)
        if not given:
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(name, "a number", value)
        if not low <= value <= high:
            raise bad("%s: %r must lie between %g and %g, found %r" % (self._what, name, low, high, value))
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """true or false."""
        given, value = self._get(name, default)
        if given and not isinstance(value, bool):
            raise self._wrong(name, "true or false", value)
        return bool(value)

    def choice(self, name: str, allowed: Tuple[str, ...], default: Any = _MISSING) -> Any:
        """One of the allowed words."""
        value = self.text(name, default, 100)
        if value is not default and value not in allowed:
            raise bad("%s: %r must be one of %s, found %r" % (self._what, name, ", ".join(allowed), value))
        return value

    def env(self, name: str) -> Dict[str, str]:
        """Environment variables: names of letters, digits and _, values of text."""
        given, value = self._get(name, {})
        if not given:
            return {}
        if not isinstance(value, dict):
            raise self._wrong(name, "an object of text", value)
        for key, item in value.items():
            if not _ENV.match(key):
                raise bad("%s: %r holds a bad variable name %r" % (self._what, name, key[:80]))
            if not isinstance(item, str) or "\0" in item:
                raise bad("%s: the value of %r in %r must be text without NUL" % (self._what, key, name))
        return dict(value)

    def integers(self, name: str, low: int = 0, high: int = 1 << 53) -> Optional[List[int]]:
        """A list of whole numbers within [low, high], None when absent."""
        given, value = self._get(name, None)
        if not given:
            return None
        if not isinstance(value, list) or any(isinstance(item, bool) or not isinstance(item, int) for item in value):
            raise self._wrong(name, "a list of whole numbers", value)
        if any(not low <= item <= high for item in value):
            raise bad("%s: %r holds a number outside %d to %d" % (self._what, name, low, high))
        return list(value)

    def texts(self, name: str) -> List[str]:
        """A list of texts; empty when absent."""
        given, value = self._get(name, [])
        if given and (not isinstance(value, list) or any(not isinstance(item, str) or "\0" in item for item in value)):
            raise self._wrong(name, "a list of texts", value)
        return list(value)


def relative_path(path: str) -> List[str]:
    """Split a relative path into its parts; refuses absolute ones, `..`, empty parts and NUL."""
    parts = path.split("/")
    if not path or len(path) > 4096 or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise bad("not a plain relative path: %r" % path[:200])
    return parts
