"""Tokens: made, shown once, and recognised by their hash. Called by the gate and by the routes that give tokens out.

A token is `sky_<id>_<secret>`. The id finds the record; of the secret the record has the SHA-256. A slow hash with a
salt, as passwords need, would protect nothing here: the secret is 32 random bytes, which nobody finds by trying, and
every call would pay for it.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import replace

from sky.core.errors import ApiServerAuthenticationError
from sky.core.model.users import Role, Token, TokenKind

DAY_S = 86400.0
#: Seconds that a login of the command line lasts, and for how long it can be renewed.
LOGIN_S = 12 * 3600.0
LOGIN_UNTIL_S = 30 * DAY_S
#: Seconds that a browser stays logged in.
SESSION_S = 12 * 3600.0
#: Seconds in which a login of the command line must be confirmed in a browser.
DEVICE_S = 600.0
#: The longest life of any token that expires.
LONGEST_S = 3650 * DAY_S

_TEXT = re.compile(r"sky_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")


def mint(
    kind: TokenKind,
    user: str,
    name: str,
    now: float,
    *,
    made_by: str = "",
    role: Role | None = None,
    workspaces: tuple[str, ...] | None = None,
    lifetime_s: float | None = None,
    renew_until: float | None = None,
) -> tuple[str, Token]:
    """A new token: its text, which is nowhere on record, and the record. Without a lifetime it does not expire."""
    id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    token = Token(
        id=id,
        kind=kind,
        user=user,
        name=name,
        hash=hash_of(secret),
        created_at=now,
        made_by=made_by,
        role=role,
        workspaces=workspaces,
        expires_at=None if lifetime_s is None else now + lifetime_s,
        lifetime_s=lifetime_s,
        renew_until=renew_until,
    )
    return f"sky_{id}_{secret}", token


def hash_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def parts(text: str) -> tuple[str, str] | None:
    """The id and the secret of a token's text; None for what is none."""
    found = _TEXT.fullmatch(text)
    return None if found is None else (found[1], found[2])


def opens(token: Token, secret: str) -> bool:
    """Whether a secret is that of a token, in a time that tells nothing."""
    return hmac.compare_digest(hash_of(secret), token.hash)


def renewed(token: Token, now: float) -> Token:
    """The token with a new life, up to the end that was set for it. Raises ApiServerAuthenticationError."""
    if token.lifetime_s is None or token.expires_at is None:
        return token
    end = now + token.lifetime_s
    if token.renew_until is not None:
        end = min(end, token.renew_until)
    if end <= token.expires_at:
        if token.renew_until is not None and token.expires_at >= token.renew_until:
            raise ApiServerAuthenticationError(
                "This token cannot be renewed any further: `sky api login` makes a new one."
            )
        return token
    return replace(token, expires_at=end)


def forgery_mark(secret: str) -> str:
    """What a page must send along with a change, so that no other site can have a browser make it."""
    return hmac.new(secret.encode(), b"csrf", hashlib.sha256).hexdigest()
