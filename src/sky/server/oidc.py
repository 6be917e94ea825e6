"""Logging in by an OpenID provider: the authorization code flow with PKCE, and the ID token checked. Extra `oidc`.

Called by the routes of logins. Between the two halves of a login nothing is kept here: what the second half must know
(state, nonce, verifier, where to go on) is in a cookie of the browser that began, so any replica can end what another
began, and nobody can end what another browser began.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

from sky.core.errors import ApiServerAuthenticationError, NotSupportedError, ServerTemporarilyUnavailableError
from sky.core.model.users import ORDER, Role
from sky.kit.clock import Clock
from sky.server.authentication import Oidc

if TYPE_CHECKING:
    import httpx

#: Seconds for each exchange with the provider, and for which what it says of itself is good.
_ANSWER_S = 10.0
_METADATA_S = 3600.0
#: Bytes of an answer of the provider.
_MOST = 1024 * 1024
#: Seconds by which the provider's clock may be off.
_LEEWAY_S = 60
#: Signatures that only the provider can make. "none", and those made with the client's secret, are not among them.
_SIGNED_BY = frozenset(
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
)
_NEXT = re.compile(r"/(?:[A-Za-z0-9_.~-][A-Za-z0-9_./~?=&-]*)?")


class Begun(NamedTuple):
    """A login that goes on at the provider: where to send the browser, and what it must bring back in its cookie."""

    url: str
    kept: str


class Identity(NamedTuple):
    """Who the provider says it is; `role` where groups decide."""

    name: str
    role: Role | None
    next: str


class Provider:
    """One OpenID provider. `back` is the address of this server to which it sends browsers back."""

    def __init__(self, settings: Oidc, back: str, clock: Clock) -> None:
        self._settings = settings
        self._back = back
        self._clock = clock
        self._metadata: tuple[float, Mapping[str, Any]] | None = None

    async def begin(self, next: str) -> Begun:
        """Begin a login. Raises NotSupportedError, ServerTemporarilyUnavailableError."""
        verifier, state, nonce = (secrets.token_urlsafe(32) for _ in range(3))
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._back,
            "scope": " ".join(self._settings.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": _challenge(verifier),
            "code_challenge_method": "S256",
        }
        where = str((await self._about())["authorization_endpoint"])
        url = f"{where}{'&' if '?' in where else '?'}{urlencode(asked)}"
        return Begun(url, _packed({"s": state, "n": nonce, "v": verifier, "next": safe_next(next)}))

    async def finish(self, query: Mapping[str, str], kept: str | None) -> Identity:
        """End a login with what the provider's redirect and the browser's cookie say.

        Raises ApiServerAuthenticationError for whatever is not exactly as it has to be.
        """
        begun = _unpacked(kept)
        if begun is None or not hmac.compare_digest(query.get("state", "").encode(), begun["s"].encode()):
            raise ApiServerAuthenticationError(
                "This login was not begun in this browser, or too long ago; begin again."
            )
        if "code" not in query:
            raise ApiServerAuthenticationError(f"The login was refused: {query.get('error', 'no code')[:80]}")
        if query.get("iss", self._settings.issuer) != self._settings.issuer:
            raise ApiServerAuthenticationError("The login comes from another provider than it was begun with.")
        token = await self._exchange(query["code"], begun["v"])
        claims = await self._claims(token, begun["n"])
        return Identity(self._name(claims), self._role(claims), safe_next(begun["next"]))

    # --- parts ---------------------------------------------------------------------------------------------------

    async def _exchange(self, code: str, verifier: str) -> Mapping[str, Any]:
        where = str((await self._about())["token_endpoint"])
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._back, "code_verifier": verifier}
        client, secret = self._settings.client_id, self._settings.client_secret
        if secret is None:
            # A public client, which PKCE is made for.
            return await self._fetch(where, {**form, "client_id": client})
        return await self._fetch(where, form, (quote(client, safe=""), quote(secret, safe="")))

    async def _claims(self, token: Mapping[str, Any], nonce: str) -> Mapping[str, Any]:
        """The claims of an ID token that the provider signed for us, now, for this login."""
        from authlib.oidc.core import CodeIDToken  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
        from joserfc import jwt  # noqa: PLC0415
        from joserfc.errors import JoseError  # noqa: PLC0415
        from joserfc.jwk import KeySet  # noqa: PLC0415
        from joserfc.jws import JWSRegistry  # noqa: PLC0415

        metadata = await self._about()
        said = metadata.get("id_token_signing_alg_values_supported") or ["RS256"]
        keys = await self._fetch(str(metadata["jwks_uri"]))
        try:
            decoded = jwt.decode(
                str(token["id_token"]),
                KeySet.import_key_set(keys),  # type: ignore[arg-type]
                registry=JWSRegistry(algorithms=sorted(_SIGNED_BY.intersection(said)), strict_check_header=False),
            )
            claims = CodeIDToken(
                decoded.claims,
                decoded.header,
                {
                    "iss": {"essential": True, "value": self._settings.issuer},
                    "aud": {"essential": True, "value": self._settings.client_id},
                    "nonce": {"essential": True, "value": nonce},
                },
                {
                    "nonce": nonce,
                    "client_id": self._settings.client_id,
                    "access_token": token.get("access_token"),
                },
            )
            claims.validate(now=int(self._clock.now()), leeway=_LEEWAY_S)
        except (JoseError, KeyError, TypeError, ValueError) as wrong:
            raise ApiServerAuthenticationError(
                f"The provider's ID token is not valid: {type(wrong).__name__}: {str(wrong)[:200]}"
            ) from None
        return dict(claims)

    def _name(self, claims: Mapping[str, Any]) -> str:
        claim = self._settings.name_claim
        name = claims.get(claim)
        if not isinstance(name, str) or not name:
            raise ApiServerAuthenticationError(f"The provider did not say who it is: no claim {claim!r}.")
        if claim == "email" and claims.get("email_verified") is False:
            # Anybody can type anybody's address into a form.
            raise ApiServerAuthenticationError(f"The provider has not verified the address {name[:80]!r}.")
        return name

    def _role(self, claims: Mapping[str, Any]) -> Role | None:
        if not self._settings.roles:
            return None
        said = claims.get(self._settings.groups_claim)
        groups = [said] if isinstance(said, str) else said if isinstance(said, list) else []
        found = [
            self._settings.roles[each] for each in groups if isinstance(each, str) and each in self._settings.roles
        ]
        if found:
            return max(found, key=ORDER.index)
        if self._settings.others == "refused":
            raise ApiServerAuthenticationError("None of the groups of this login may use this server.")
        return Role(self._settings.others)

    async def _about(self) -> Mapping[str, Any]:
        """What the provider says of itself. Raises ServerTemporarilyUnavailableError."""
        now = self._clock.now()
        if self._metadata is not None and 0 <= now - self._metadata[0] < _METADATA_S:
            return self._metadata[1]
        issuer = self._settings.issuer
        found = await self._fetch(issuer.rstrip("/") + "/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise ServerTemporarilyUnavailableError(
                f"The OpenID provider calls itself {str(found.get('issuer'))[:120]!r} and is configured as {issuer!r}."
            )
        for key in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            url = str(found.get(key) or "")
            if not url.startswith("https://") and not (self._settings.plain_http and url.startswith("http://")):
                raise ServerTemporarilyUnavailableError(f"The OpenID provider's {key} is no https address.")
        self._metadata = (now, found)
        return found

    async def _fetch(
        self, url: str, form: Mapping[str, str] | None = None, login: tuple[str, str] | None = None
    ) -> Mapping[str, Any]:
        """An object of JSON; with `form`, by POST. Raises ApiServerAuthenticationError for what is refused."""
        httpx = _httpx()
        method = "GET" if form is None else "POST"
        try:
            async with (
                httpx.AsyncClient(timeout=_ANSWER_S) as client,
                client.stream(method, url, data=form, auth=login, headers={"accept": "application/json"}) as response,
            ):
                data = b""
                async for piece in response.aiter_bytes():
                    data += piece
                    if len(data) > _MOST:
                        raise ValueError(f"more than {_MOST} bytes")
                told = json.loads(data) if response.status_code in (200, 400, 401) else None
                refused = response.status_code != 200
            if not isinstance(told, dict):
                raise ValueError(f"status {response.status_code}, and no object")
        except (httpx.HTTPError, ValueError) as failed:
            raise _away(url, failed) from None
        if refused:
            why = str(told.get("error_description") or told.get("error"))[:200]
            raise ApiServerAuthenticationError(f"The OpenID provider refused the login: {why}")
        return told


def safe_next(text: str) -> str:
    """Where a browser goes on after its login: a path of this server, and nothing else."""
    return text if _NEXT.fullmatch(text) and "//" not in text and len(text) <= 200 else "/auth/done"


def _challenge(verifier: str) -> str:
    """What is shown of a verifier at the beginning."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _packed(told: Mapping[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(told).encode()).rstrip(b"=").decode()


def _unpacked(text: str | None) -> Mapping[str, str] | None:
    try:
        told = json.loads(base64.urlsafe_b64decode((text or "") + "=" * (-len(text or "") % 4)))
    except (ValueError, binascii.Error):
        return None
    if not isinstance(told, dict) or set(told) != {"s", "n", "v", "next"}:
        return None
    return told if all(isinstance(value, str) and value for value in told.values()) else None


def _httpx() -> Any:
    try:
        import httpx  # noqa: PLC0415 - an extra
    except ImportError:
        raise _missing() from None
    return httpx


def _missing() -> NotSupportedError:
    return NotSupportedError("OpenID Connect needs authlib: pip install 'altostratus[oidc]' where the server runs.")


def _away(where: str, failed: "Exception | httpx.HTTPError") -> ServerTemporarilyUnavailableError:
    return ServerTemporarilyUnavailableError(
        f"The OpenID provider at {where} does not answer as it should: {type(failed).__name__}: {str(failed)[:200]}"
    )
