"""Seals what users say to their tasks before it is written to a database: environment, secrets, logins in addresses.

`documents` calls it for each document that is written or read; the keys come from `server.vault`. The standard library
has no cipher and the core install takes no further dependency, so this is built of its hash functions, from two
constructions that are each well understood: the key stream is SHAKE-256 over a key of its own and a fresh nonce (a
sponge with its key in front is a pseudo-random function), and what comes of it is authenticated by HMAC-SHA256
(encrypt, then authenticate). The text begins with the version of this format, so that another can take its place.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from functools import lru_cache
from typing import Protocol

#: The version that this module writes and reads.
_FORMAT = "s1"
#: Bytes of a key, of a nonce, and of a tag.
KEY_BYTES, _NONCE, _TAG = 32, 24, 32


class CannotOpen(ValueError):
    """A sealed text whose key is missing, or that is not what was sealed here."""


class Keys(Protocol):
    """Keys by their ids: 32 bytes each. An id is letters and digits."""

    def current(self) -> tuple[str, bytes]:
        """Id and key that new texts are sealed with."""
        ...

    def key(self, id: str) -> bytes | None:
        """A key that was in use at some time."""
        ...


class Sealer:
    """Seals and opens. A text can be opened only as being about what it was sealed about."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    @property
    def key_id(self) -> str:
        """The id of the key that new texts are sealed with."""
        return self._keys.current()[0]

    def knows(self, id: str) -> bool:
        """Whether texts sealed with this key can be opened."""
        return self._keys.key(id) is not None

    def seal(self, plain: bytes, about: str) -> str:
        """`s1.<key id>.<nonce, ciphertext and tag in base64>`."""
        id, key = self._keys.current()
        stream_key, tag_key = _parts(key)
        nonce = secrets.token_bytes(_NONCE)
        hidden = nonce + _crossed(plain, stream_key, nonce)
        return f"{_FORMAT}.{id}.{base64.b64encode(hidden + _tag(tag_key, id, about, hidden)).decode()}"

    def open(self, sealed: str, about: str) -> bytes:
        """What was sealed. Raises CannotOpen."""
        form, _, rest = sealed.partition(".")
        id, _, body = rest.partition(".")
        if form != _FORMAT:
            raise CannotOpen(f"{about} is sealed in the format {form[:10]!r}, which this version does not know")
        key = self._keys.key(id)
        if key is None:
            raise CannotOpen(f"{about} is sealed with the key {id[:40]!r}, which is not among this server's keys")
        stream_key, tag_key = _parts(key)
        try:
            whole = base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError) as error:
            raise CannotOpen(f"{about} is not a sealed text: {error}") from None
        hidden, tag = whole[:-_TAG], whole[-_TAG:]
        if len(hidden) < _NONCE or not hmac.compare_digest(tag, _tag(tag_key, id, about, hidden)):
            raise CannotOpen(f"{about} was changed since it was sealed, or sealed about something else")
        return _crossed(hidden[_NONCE:], stream_key, hidden[:_NONCE])


def key_of(sealed: str) -> str:
    """The id of the key that a text is sealed with; empty for what is no sealed text."""
    return sealed.partition(".")[2].partition(".")[0]


@lru_cache(maxsize=64)
def _parts(key: bytes) -> tuple[bytes, bytes]:
    """One key for the stream and one for the tag. Raises ValueError for a key of another length."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key for sealing has {KEY_BYTES} bytes, not {len(key)}")
    stream, tag = (hmac.digest(key, purpose, "sha256") for purpose in (b"sky seal: stream", b"sky seal: tag"))
    return stream, tag


def _crossed(text: bytes, key: bytes, nonce: bytes) -> bytes:
    # Key and nonce have fixed lengths, so no two pairs make the same input.
    stream = hashlib.shake_256(key + nonce).digest(len(text))
    return (int.from_bytes(text, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(text), "big")


def _tag(key: bytes, id: str, about: str, hidden: bytes) -> bytes:
    head = f"{_FORMAT}.{id}.{about}".encode()
    return hmac.digest(key, len(head).to_bytes(4, "big") + head + hidden, "sha256")
