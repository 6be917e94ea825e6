"""How people who come over TCP say who they are: the section `auth` of `~/.sky/.server.yaml`. Read at the start.

```yaml
auth:
  public_url: https://sky.example.org     # how browsers reach this server
  basic: {enabled: true}                  # users come with name and password
  hosts: [sky.example.org]                # further names by which it is called
  external_proxy: {enabled: true, header_name: X-Auth-Request-Email, peers: [10.0.0.7], secret_file: /etc/sky/proxy}
  oidc: {issuer: https://login.example.org, client_id: sky, client_secret_file: /etc/sky/oidc, roles: {ops: admin}}
```
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.schema import Field, Problems, Section, check_section
from sky.core.model.users import Role, read_role

#: The header in which a proxy shows its secret, unless another is named.
SECRET_HEADER = "X-Sky-Proxy-Secret"  # noqa: S105 - the name of a header
SERVER_FILE = Path(".sky") / ".server.yaml"

_TEXT = Field(("text",), "a text")
_BOOL = Field(("boolean",), "a switch")
_TEXTS = Field(("list",), "a list", values=_TEXT)

_PROXY = Section(
    "auth.external_proxy",
    {
        "enabled": _BOOL,
        "header_name": _TEXT,
        "header_format": Field(("text",), "how it is written", choices=("plaintext", "jwt")),
        "jwt_identity_claim": _TEXT,
        "peers": _TEXTS,
        "secret_header": _TEXT,
        "secret_file": _TEXT,
    },
)
_OIDC = Section(
    "auth.oidc",
    {
        "issuer": _TEXT,
        "client_id": _TEXT,
        "client_secret_file": _TEXT,
        "scopes": _TEXTS,
        "name_claim": _TEXT,
        "groups_claim": _TEXT,
        "roles": Field(("mapping",), "role by group", values=_TEXT),
        "others": Field(("text",), "role of those in none of these groups", choices=("user", "viewer", "refused")),
        "plain_http": _BOOL,
    },
)
FILE = Section(
    "the server's file",
    {
        "auth": Field(
            ("mapping",),
            "logins",
            section=Section(
                "auth",
                {
                    "public_url": _TEXT,
                    "hosts": _TEXTS,
                    "basic": Field(("mapping",), "passwords", section=Section("auth.basic", {"enabled": _BOOL})),
                    "external_proxy": Field(("mapping",), "a trusted proxy", section=_PROXY),
                    "oidc": Field(("mapping",), "OpenID Connect", section=_OIDC),
                },
            ),
        )
    },
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that says who calls. It is believed if it comes from `peers` and, where there is one, shows the secret.

    With `claim` the header holds a JWT, whose claim of that name is the user; the proxy has checked it.
    """

    header: str
    peers: tuple[Network, ...]
    claim: str | None = None
    secret_header: str = SECRET_HEADER
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Oidc:
    """An OpenID provider. `roles` gives the role of each group; without any, `rbac.default_role` counts."""

    issuer: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    name_claim: str = "email"
    groups_claim: str = "groups"
    roles: Mapping[str, Role] = field(default_factory=dict)
    others: str = "refused"
    plain_http: bool = False


@dataclass(frozen=True, slots=True)
class Authentication:
    """What is configured; nothing by default."""

    public_url: str | None = None
    hosts: frozenset[str] = frozenset()
    proxy: Proxy | None = None
    oidc: Oidc | None = None
    basic: bool = False


def read_authentication(home: Path) -> Authentication:
    """The configuration of logins; none where there is no file. Raises ValueError with file, line and what to do."""
    path = home / SERVER_FILE
    if not path.exists():
        return Authentication()
    # YAML is loaded by servers that have such a file only.
    from sky.wire.yaml_reader import expect_mapping, read_documents  # noqa: PLC0415

    documents = read_documents(path.read_bytes(), str(path), kind="config")
    if not documents:
        return Authentication()
    told = expect_mapping(documents[0], "config")
    problems = Problems(kind="config", locate=documents[0].locate)
    check_section(told, FILE, (), problems)
    problems.raise_if_any()
    return from_config(told.get("auth") or {})


def from_config(auth: Mapping[str, object]) -> Authentication:
    """The configuration of logins from the section `auth`. Raises InvalidSkyPilotConfigError, ValueError."""
    url = auth.get("public_url")
    hosts = frozenset(str(each).lower() for each in _list(auth.get("hosts")))
    if url is not None:
        parts = urlsplit(str(url))
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _wrong("public_url", f"found {url!r}; allowed: https://NAME or http://NAME:PORT")
        hosts |= {parts.hostname.lower()}
    proxy, oidc = _proxy(_map(auth.get("external_proxy"))), _oidc(_map(auth.get("oidc")))
    if oidc is not None and url is None:
        raise _wrong("public_url", "OpenID Connect needs it: the address under which browsers reach this server")
    basic = bool(_map(auth.get("basic")).get("enabled"))
    return Authentication(None if url is None else str(url).rstrip("/"), hosts, proxy, oidc, basic)


def _proxy(told: Mapping[str, object]) -> Proxy | None:
    if not told.get("enabled"):
        return None
    peers = tuple(_network(str(each)) for each in _list(told.get("peers")))
    if not peers:
        raise _wrong(
            "external_proxy.peers",
            "name the addresses that the proxy comes from: whoever else can reach this port could be anybody",
        )
    claim = str(told.get("jwt_identity_claim") or "sub") if told.get("header_format") == "jwt" else None
    return Proxy(
        str(told.get("header_name") or "X-Auth-Request-Email"),
        peers,
        claim,
        str(told.get("secret_header") or SECRET_HEADER),
        _secret(told, "secret_file"),
    )


def _oidc(told: Mapping[str, object]) -> Oidc | None:
    if not told:
        return None
    issuer, client = str(told.get("issuer") or ""), str(told.get("client_id") or "")
    plain = bool(told.get("plain_http"))
    if not client or (not issuer.startswith("https://") and not (plain and issuer.startswith("http://"))):
        raise _wrong("oidc", "issuer (an https:// address) and client_id are needed")
    usual = Oidc(issuer, client)
    return Oidc(
        issuer,
        client,
        _secret(told, "client_secret_file"),
        tuple(map(str, _list(told.get("scopes")))) or usual.scopes,
        str(told.get("name_claim") or usual.name_claim),
        str(told.get("groups_claim") or usual.groups_claim),
        {str(group): read_role(str(role)) for group, role in _map(told.get("roles")).items()},
        str(told.get("others") or usual.others),
        plain,
    )


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as wrong:
        raise _wrong("external_proxy.peers", str(wrong)) from None


def _secret(told: Mapping[str, object], key: str) -> str | None:
    if told.get(key) is None:
        return None
    path = Path(str(told[key])).expanduser()
    if not path.is_file():
        raise _wrong(key, f"there is no file {path}")
    if path.stat().st_mode & 0o077:
        raise _wrong(key, f"{path} can be read by others; run: chmod 600 {path}")
    return path.read_text().strip()


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _map(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _wrong(key: str, why: str) -> InvalidSkyPilotConfigError:
    return InvalidSkyPilotConfigError(f"Invalid config YAML: ~/{SERVER_FILE}: auth.{key}: {why}")
