"""JSON in and out of typed structs; the only place outside `store` that knows the validation library.

Called by the server's routes and by the modules of this room that define messages. A client that reads records uses
plain JSON instead and never loads this.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from msgspec import field

from sky.core.errors import ClientError, SkyError

__all__ = ["Body", "Record", "decode", "encode", "field", "plain", "schemas"]

T = TypeVar("T")

#: NUL as JSON writes it: an even number of backslashes before it are backslashes themselves.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Arguments of a call. Unknown fields are refused: ignoring one would silently do something else."""


class Record(msgspec.Struct, kw_only=True):
    """Something that is told; readers ignore fields that they do not know."""


_encoder = msgspec.json.Encoder(decimal_format="number")


@lru_cache(maxsize=256)
def _decoder(kind: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(kind)


def encode(value: object) -> bytes:
    """JSON of structs, dataclasses, enums, mappings, sequences and plain values."""
    return _encoder.encode(value)


def decode(kind: type[T], data: bytes) -> T:
    """A value of `kind` from JSON; empty input counts as an empty object.

    Raises ClientError with the field's path for anything that does not fit, or what the body itself raises. So for
    the character NUL, which no name, path, variable or command can hold, and PostgreSQL no text.
    """
    if b"u0000" in data and _NUL.search(data):
        raise ClientError("The request body holds the character NUL (\\u0000), which nothing here may.")
    try:
        return _decoder(kind).decode(data or b"{}")  # type: ignore[arg-type, no-any-return]
    except msgspec.ValidationError as refused:
        if isinstance(refused.__cause__, SkyError):
            # A ValueError of ours, raised by a body's `__post_init__`: it says more than the library's wrapping of it.
            raise refused.__cause__ from None
        raise ClientError(f"The request body is not valid: {refused}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as refused:
        raise ClientError(f"The request body is not JSON: {refused}") from None


def plain(value: object) -> Any:
    """Structs and enums as dicts, lists and plain values."""
    return msgspec.to_builtins(value)


def schemas(kinds: Iterable[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """JSON schemas of message types, and the components that they refer to, for the OpenAPI document."""
    found, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return list(found), components
