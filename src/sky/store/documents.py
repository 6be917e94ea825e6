"""Domain values to JSON text and back: whole nouns by their type, events and orders by their class name."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from sky.kit.frozen import replace
from sky.store.sealing import Sealer, key_of

T = TypeVar("T")

#: The only key of what stands in the place of a sealed field. No argument of a request has such a name.
_SEALED = "$sealed"
#: Sealed fields of one noun that are remembered as they are in the open; those of rows that nobody touches go first.
_REMEMBERED = 2000


class Document(Generic[T]):
    """The JSON form of one frozen dataclass.

    Fields named by `sealed` are mappings that may hold secrets; with a `sealer` they are written sealed, each about the
    noun, the entity's `id` and its own name. Read are both forms, so what was written without one is read on.

    Such fields hardly ever change, and a row is read and written a dozen times on its way: what a field was sealed as,
    or opened to, serves for as long as the very same is to be sealed or opened.
    """

    def __init__(self, type_: type[T], sealed: Sequence[str] = (), sealer: Sealer | None = None) -> None:
        self._decoder = msgspec.json.Decoder(type_)
        self._encoder = msgspec.json.Encoder()
        self._noun = type_.__name__.lower()
        self._fields = tuple(sealed)
        self._sealer = sealer
        #: By what they are about: sealed texts, each with what was sealed and with what it was opened to, if it was.
        self._known: dict[str, tuple[str, object, object]] = {}

    def dump(self, value: T) -> str:
        """Compact JSON text."""
        if self._sealer is not None:
            value = replace(value, **self._hidden(value, self._sealer))  # type: ignore[type-var]
        return self._encoder.encode(value).decode()

    def load(self, text: str) -> T:
        """The value; raises ValueError on a document of another shape, or that cannot be opened."""
        value = self._decoder.decode(text)
        shown = {
            name: self._shown(given, value.id, name)  # type: ignore[attr-defined]
            for name in self._fields
            if _SEALED in (given := getattr(value, name))
        }
        return replace(value, **shown) if shown else value  # type: ignore[type-var]

    def stale(self, text: str) -> bool:
        """Whether something in it is not sealed with the key that is in use now."""
        if self._sealer is None:
            return False
        value = self._decoder.decode(text)
        given = [found for name in self._fields if (found := getattr(value, name))]
        now = self._sealer.key_id
        return any(_SEALED not in each or key_of(str(each[_SEALED])) != now for each in given)

    def _hidden(self, value: T, sealer: Sealer) -> dict[str, object]:
        id = value.id  # type: ignore[attr-defined]
        return {
            name: {_SEALED: self._seal(given, self._about(id, name), sealer)}
            for name in self._fields
            if (given := getattr(value, name))
        }

    def _seal(self, given: object, about: str, sealer: Sealer) -> str:
        text, *same = self._known.get(about, ("", None, None))
        if any(given is each for each in same) and key_of(text) == sealer.key_id:
            return text
        text = sealer.seal(self._encoder.encode(given), about)
        self._remember(about, text, given, None)
        return text

    def _shown(self, given: Mapping[str, object], id: str, name: str) -> object:
        about = self._about(id, name)
        if self._sealer is None:
            raise ValueError(f"{about} is sealed, and this server has no keys")
        sealed = str(given[_SEALED])
        text, written, shown = self._known.get(about, ("", None, None))
        if text != sealed or shown is None:
            shown = msgspec.json.decode(self._sealer.open(sealed, about))
            # What was written may be of other types than what is read: a tuple, say, for a list.
            self._remember(about, sealed, written if text == sealed else None, shown)
        return shown

    def _remember(self, about: str, text: str, written: object, shown: object) -> None:
        known = self._known
        known.pop(about, None)
        known[about] = (text, written, shown)
        if len(known) > _REMEMBERED:
            del known[next(iter(known))]

    def _about(self, id: str, name: str) -> str:
        return f"{self._noun}:{id}:{name}"


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
