"""The SSH keys of an installation: one to get in with, and one for the machines of each cluster to be known by.

All are derived from one secret on disk, so that a creation that is repeated after a crash asks for the same machines,
and nothing has to be kept per cluster. Opened by `server.assembly`; providers reach it as `core.ports.Keys`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from sky.core.errors import NotSupportedError
from sky.core.model.machines import Login

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SEED = "installation.key"
_IDENTITY = "id_ed25519"
_KNOWN = "known_nodes"
#: Fixed, so that a certificate is the same each time. A node's clock may be wrong, and a key that is made anew for
#: each cluster needs no end.
_VALID_FROM, _VALID_UNTIL = datetime(2000, 1, 1, tzinfo=UTC), datetime(2999, 12, 31, tzinfo=UTC)


class KeyRing:
    """See the module. `folder` is private to this installation; what it lacks is made at the first use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._login = lru_cache(maxsize=1024)(self._make_login)
        self._certificate = lru_cache(maxsize=1024)(self._make_certificate)

    def installation(self) -> str:
        """The mark of what this installation makes: no secret, and nobody else's."""
        return self.seed("installation").hex()[:16]

    def login(self, cluster_id: str) -> Login:
        """The keys of a cluster's machines. Raises NotSupportedError where the SSH library is not installed."""
        return self._login(cluster_id)

    def identity(self) -> Path:
        """The file of the private key that this installation gets in with, as OpenSSH reads it."""
        path = self.folder / _IDENTITY
        if not path.exists():
            self._write(path, _private_text(self._key("login")))
            self._write(path.with_suffix(".pub"), f"{self._public('login')} sky\n")
        return path

    def known_nodes(self) -> Path:
        """The file of the host keys that were pinned at a first connection."""
        return self.folder / _KNOWN

    def seed(self, purpose: str) -> bytes:
        """32 bytes that are this installation's alone, different for each purpose."""
        return hmac.digest(self._secret(), purpose.encode(), hashlib.sha256)

    def certificate(self, cluster_id: str) -> tuple[str, str]:
        """The certificate by which a cluster's agents know each other, and its key, as PEM: the same each time.

        It is its own authority and says nothing but that its holder is of the cluster. Raises NotSupportedError.
        """
        return self._certificate(cluster_id)

    def _make_certificate(self, cluster_id: str) -> tuple[str, str]:
        key = self._key(f"tls:{cluster_id}")
        from cryptography import x509  # noqa: PLC0415 - as below
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as below
        from cryptography.x509.oid import NameOID  # noqa: PLC0415 - as below

        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"sky-{cluster_id}"[:64])])
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(int.from_bytes(self.seed(f"serial:{cluster_id}")[:16], "big") >> 1 | 1)
            .not_valid_before(_VALID_FROM)
            .not_valid_after(_VALID_UNTIL)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, None)
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return made.public_bytes(serialization.Encoding.PEM).decode(), private.decode()

    def _make_login(self, cluster_id: str) -> Login:
        host = f"host:{cluster_id}"
        return Login(f"{self._public('login')} sky", _private_text(self._key(host)), self._public(host))

    def _key(self, purpose: str) -> Ed25519PrivateKey:
        try:
            # Loading OpenSSL's bindings takes tens of milliseconds, and a server of this machine alone needs none.
            from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
        except ImportError:
            raise NotSupportedError(
                "machines elsewhere are reached by SSH, whose library is not installed; "
                "install it with: pip install 'altostratus[ssh]'"
            ) from None
        return ed25519.Ed25519PrivateKey.from_private_bytes(self.seed(purpose))

    def _public(self, purpose: str) -> str:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as above

        made = self._key(purpose).public_key()
        return made.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()

    def _secret(self) -> bytes:
        path = self.folder / _SEED
        try:
            return path.read_bytes()
        except FileNotFoundError:
            self._write(path, secrets.token_bytes(32))
            return path.read_bytes()

    def _write(self, path: Path, content: str | bytes) -> None:
        """Made once and whole; of two processes that make it at once, the first one's stays."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
            with suppress(FileExistsError):
                os.link(fresh, path)
        finally:
            fresh.unlink()


def _private_text(key: Ed25519PrivateKey) -> str:
    """OpenSSH's own format, from the parts of the key alone: the same text each time, which the library's is not."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as above

    raw, public = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    shown = key.public_key().public_bytes(raw, public)
    seed = key.private_bytes(raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    return _openssh(seed, shown)


def _openssh(seed: bytes, public: bytes) -> str:
    """An unencrypted `openssh-key-v1` file of an Ed25519 key; the format is OpenSSH's PROTOCOL.key."""

    def text(value: bytes) -> bytes:
        return len(value).to_bytes(4, "big") + value

    shown = text(b"ssh-ed25519") + text(public)
    check = hashlib.sha256(seed).digest()[:4]
    hidden = check + check + shown + text(seed + public) + text(b"")
    hidden += bytes(range(1, 1 + -len(hidden) % 8))
    whole = b"openssh-key-v1\0" + text(b"none") + text(b"none") + text(b"") + (1).to_bytes(4, "big") + text(shown)
    lines = base64.encodebytes(whole + text(hidden)).decode()
    body = "".join(lines.split())
    wrapped = "\n".join(body[at : at + 70] for at in range(0, len(body), 70))
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{wrapped}\n-----END OPENSSH PRIVATE KEY-----\n"
