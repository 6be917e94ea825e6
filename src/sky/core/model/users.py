"""Who asks: people, service accounts, the tokens that stand for them, and a caller as a call found them.

Recorded by `store.users`, judged by `core.policy.rights`.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

_USER = re.compile(r"[A-Za-z0-9._@+-]{1,128}")


class Role(StrEnum):
    """What somebody may do at most: everything, use the server, or look."""

    ADMIN = "admin"
    USER = "user"
    VIEWER = "viewer"


#: Roles from least to most.
ORDER = (Role.VIEWER, Role.USER, Role.ADMIN)


class UserKind(StrEnum):
    """A person, or a name under which a program works."""

    PERSON = "person"
    SERVICE = "service"


class TokenKind(StrEnum):
    """What a token is for: a service account, a login of the command line, a browser, or a login not yet confirmed.

    A password is kept as one too; nothing is ever opened by its text alone.
    """

    ACCOUNT = "account"
    LOGIN = "login"
    SESSION = "session"
    DEVICE = "device"
    PASSWORD = "password"  # noqa: S105 - a word


class Via(StrEnum):
    """How a call said who makes it."""

    SOCKET = "socket"
    FILE_TOKEN = "file-token"  # noqa: S105 - a word, not a token
    TOKEN = "token"  # noqa: S105
    SESSION = "session"
    PROXY = "proxy"
    PASSWORD = "password"  # noqa: S105
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who is known here. Times are seconds since the epoch; `made_by` is the user or way that brought them.

    `preferred` is the workspace that they chose; a `disabled` user is refused whatever they show.
    """

    name: str
    role: Role
    kind: UserKind = UserKind.PERSON
    created_at: float = 0.0
    made_by: str = ""
    preferred: str | None = None
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """A token on record: never the token itself, but the SHA-256 of its secret part, in hexadecimal digits.

    `role` and `workspaces` narrow what its user may do (None: no narrower). `lifetime_s` is what a renewal adds, up to
    `renew_until` (None: as often as is asked); a token without `expires_at` does not expire.
    """

    id: str
    kind: TokenKind
    user: str
    name: str
    hash: str
    created_at: float
    made_by: str = ""
    role: Role | None = None
    workspaces: tuple[str, ...] | None = None
    expires_at: float | None = None
    lifetime_s: float | None = None
    renew_until: float | None = None
    used_at: float | None = None
    revoked_at: float | None = None

    def good(self, now: float) -> bool:
        """Whether it still opens anything."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call, as far as the call itself goes: the lesser of what the user and the token may.

    `workspaces` bounds them (None: all that the user may enter); `address` is where the call came from.
    """

    user: str
    role: Role
    via: Via = Via.SOCKET
    workspaces: frozenset[str] | None = None
    token: str | None = None
    address: str = ""


def check_user_name(name: str) -> str:
    """Return the name of a user or raise ValueError."""
    if not _USER.fullmatch(name):
        raise ValueError(f"found the user name {name[:80]!r}; allowed: at most 128 letters, digits and . _ @ + -")
    return name


def read_role(word: str) -> Role:
    """Return a role by its name or raise ValueError."""
    try:
        return Role(word.lower())
    except ValueError:
        raise ValueError(f"found the role {word[:40]!r}; allowed: {', '.join(ORDER)}") from None


def lesser(one: Role, other: Role | None) -> Role:
    """The role of the two that may less."""
    return one if other is None or ORDER.index(one) <= ORDER.index(other) else other
