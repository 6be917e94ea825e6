"""Domain values to JSON text and back: whole nouns by their type, events and orders by their class name."""

from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")


class Document(Generic[T]):
    """The JSON form of one frozen dataclass."""

    def __init__(self, type_: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(type_)
        self._encoder = msgspec.json.Encoder()

    def dump(self, value: T) -> str:
        """Compact JSON text."""
        return self._encoder.encode(value).decode()

    def load(self, text: str) -> T:
        """The value; raises msgspec.ValidationError on a document of another shape."""
        return self._decoder.decode(text)


class Tagged:
    """The JSON form of one of several dataclasses: `["ClassName", {...}]`."""

    def __init__(self, types: Iterable[type]) -> None:
        self._types: Mapping[str, type] = {each.__name__: each for each in types}
        self._encoder = msgspec.json.Encoder()

    def dump(self, value: object) -> str:
        """Compact JSON text. Raises KeyError for a class that was not named."""
        name = type(value).__name__
        if self._types[name] is not type(value):
            raise KeyError(name)
        return self._encoder.encode([name, value]).decode()

    def load(self, text: str) -> Any:
        """The value of the named class."""
        name, fields = msgspec.json.decode(text)
        return msgspec.convert(fields, self._types[name])
