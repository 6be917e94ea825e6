"""Passwords of users, for servers that ask for them (`auth.basic`). Called by the gate and by the routes of users.

On record is what scrypt makes of one, in the text form `$scrypt$ln=LOG2N,r=R,p=P$SALT$HASH`; nobody finds the password
from that in any reasonable time, nor can it be shown again. Checking one takes a tenth of a second on purpose, so a
password that was right is known again for a moment, few are checked at a time, and who guesses has to wait.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
import secrets

from sky.core.errors import ApiServerAuthenticationError, ConcurrentWorkerExhaustedError
from sky.core.model.users import Token, TokenKind, User, UserKind
from sky.server.people import People

#: The cost of one: 2**15 blocks of 8, three times over; 32 MiB while it lasts.
_LOG_N, _R, _P = 15, 8, 3
_SALT_BYTES, _HASH_BYTES = 16, 32
#: Costs that are accepted from elsewhere: no less than a minimum, and no more than the server can bear.
_LOG_NS, _RS, _PS = range(14, 18), range(8, 17), range(1, 9)
SHORTEST, LONGEST = 8, 512
#: Seconds for which a password that was right need not be checked again, and how many are known so.
_KNOWN_S, _MOST_KNOWN = 60.0, 10_000
#: Wrong passwords of one name, and from one address, within so many seconds, after which none is checked.
_WRONG, _WRONG_WITHIN_S = 10, 60.0
#: Checked at a time.
_AT_ONCE = 2
_FORM = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{22,86})\$([A-Za-z0-9+/]{43,86})")


def check_password(password: str) -> str:
    """A password that may be one. Raises ValueError, without it."""
    if not SHORTEST <= len(password) <= LONGEST or not password.isprintable():
        raise ValueError(f"a password has {SHORTEST} to {LONGEST} characters that can be printed")
    return password


def hashed(password: str) -> str:
    """What is kept of a password. Takes a tenth of a second: not for the event loop."""
    salt = secrets.token_bytes(_SALT_BYTES)
    made = _scrypt(password, salt, _LOG_N, _R, _P, _HASH_BYTES)
    return f"$scrypt$ln={_LOG_N},r={_R},p={_P}${_text(salt)}${_text(made)}"


def is_hash(text: str) -> bool:
    """Whether a text is what is kept of a password, at a cost that this server accepts."""
    found = _FORM.fullmatch(text)
    return found is not None and all(
        int(said) in allowed for said, allowed in zip(found.groups(), (_LOG_NS, _RS, _PS), strict=False)
    )


def matches(kept: str, password: str) -> bool:
    """Whether a password is the one of which `kept` is kept. Takes a tenth of a second: not for the event loop."""
    found = _FORM.fullmatch(kept)
    if found is None:
        return False
    log_n, r, p = (int(each) for each in found.groups()[:3])
    try:
        salt, wanted = _bytes(found[4]), _bytes(found[5])
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(_scrypt(password, salt, log_n, r, p, len(wanted)), wanted)


def _scrypt(password: str, salt: bytes, log_n: int, r: int, p: int, size: int) -> bytes:
    n = 1 << log_n
    return hashlib.scrypt(
        password.encode("utf-8", "replace"), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=size
    )  # fmt: skip


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


class Passwords:
    """Sets and checks them."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._secret = secrets.token_bytes(32)
        #: By what a name and a password make: until when they are known to belong together, and by which record.
        self._known: dict[bytes, tuple[float, str]] = {}
        #: By name or address: times of wrong ones.
        self._wrong: dict[str, list[float]] = {}
        #: Checked where there is none, so that the time taken does not tell who is known.
        self._dummy = f"$scrypt$ln={_LOG_N},r={_R},p={_P}${_text(bytes(_SALT_BYTES))}${_text(bytes(_HASH_BYTES))}"

    async def set(self, name: str, password: str, by: str) -> None:
        """Give a user another password, or the hash of one. Raises ValueError."""
        kept = password if is_hash(password) else await asyncio.to_thread(hashed, check_password(password))
        old, now = await self._of(name), self._people.now()
        token = Token(f"pw{secrets.token_hex(15)}", TokenKind.PASSWORD, name, "password", kept, now, made_by=by)
        await self._people.users.add_token(token)
        for each in old:
            await self._people.revoke(each)

    async def hash_of(self, name: str) -> str | None:
        """What is kept of a user's password; None for one who has none."""
        found = await self._of(name)
        return found[0].hash if found else None

    async def who(self, name: str, password: str, address: str) -> User:
        """The user of this name and password. Raises ApiServerAuthenticationError, ConcurrentWorkerExhaustedError."""
        now = self._people.now()
        if len(name) <= LONGEST and len(password) <= LONGEST:
            mark = hmac.digest(self._secret, f"{name}\0{password}".encode("utf-8", "replace"), "sha256")
            until, id = self._known.get(mark, (0.0, ""))
            behind = await self._people.behind(id) if now < until else None
            if behind is not None and behind[0].good(now):
                return await self._people.active(name)
            self._refuse_guesses(name, address, now)
            found = await self._of(name)
            async with self._turn:
                right = await asyncio.to_thread(matches, found[0].hash if found else self._dummy, password)
            user = await self._people.find(name)
            if right and found and user is not None and user.kind is UserKind.PERSON:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known[mark] = (now + _KNOWN_S, found[0].id)
                return await self._people.active(name)
        for each in (f"name {name[:128]}", f"from {address}"):
            self._wrong.setdefault(each, []).append(now)
        raise ApiServerAuthenticationError("The API server does not know this name and password.")

    def _refuse_guesses(self, name: str, address: str, now: float) -> None:
        if len(self._wrong) >= _MOST_KNOWN:
            self._wrong.clear()
        for each in (f"name {name[:128]}", f"from {address}"):
            recent = [at for at in self._wrong.get(each, ()) if now - at < _WRONG_WITHIN_S]
            if recent:
                self._wrong[each] = recent
            else:
                self._wrong.pop(each, None)
            if len(recent) >= _WRONG:
                raise ConcurrentWorkerExhaustedError(
                    f"Too many wrong passwords within {_WRONG_WITHIN_S:g} seconds; try again in a minute."
                )

    async def _of(self, name: str) -> list[Token]:
        now = self._people.now()
        return [each for each in await self._people.users.tokens(name) if _usable(each, now)]


def _usable(token: Token, now: float) -> bool:
    return token.kind is TokenKind.PASSWORD and token.good(now)
