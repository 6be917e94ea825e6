"""Who asks Google Cloud, and which project pays: credentials and project as Google's own tools find them.

Opened by `compute`; `rest` signs its requests with what is found. Nothing is read until somebody asks.
"""

import configparser
import json
import re
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google.auth
import google.auth.exceptions
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import credentials as user
from google.oauth2 import service_account

from sky.core.errors import CredentialsRejected, ProviderDown
from sky.providers.gcp.config import GcpConfig
from sky.providers.registry import Settings

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_COMPUTE = "https://compute.googleapis.com"
_TPU = "https://tpu.googleapis.com"
_WHO = "https://oauth2.googleapis.com/tokeninfo"
_LARGEST_FILE = 1 << 20
_BIOS = Path("/sys/class/dmi/id/product_name")
_PRINCIPAL = re.compile(r"[\w.@:+-]{1,320}")


@dataclass(frozen=True, slots=True)
class Account:
    """Credentials with the project that they are used for. `source` says where they were found, for people."""

    credentials: Any
    project: str
    source: str
    principal: str
    compute: str = _COMPUTE
    tpu: str = _TPU


class Accounts:
    """Finds the account once, and again after the configuration has changed. Safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._found: tuple[tuple[str, ...], Account] | None = None

    def account(self, config: GcpConfig) -> Account:
        """Reads files, and may ask Google's metadata server; blocks. Raises CredentialsRejected with what to do."""
        environment = self._settings.environment
        key = (
            config.project_id,
            config.endpoint or environment.get("SKY_GCP_ENDPOINT", ""),
            environment.get("GOOGLE_APPLICATION_CREDENTIALS", ""),
            environment.get("GOOGLE_CLOUD_PROJECT", ""),
            *("" if config.endpoint else self._stamp()),
        )
        with self._lock:
            if self._found is None or self._found[0] != key:
                self._found = (key, self._find(config, key[1].rstrip("/")))
            return self._found[1]

    def _find(self, config: GcpConfig, endpoint: str) -> Account:
        if endpoint:
            found: tuple[Any, str, str] = (AnonymousCredentials(), "", "endpoint")  # type: ignore[no-untyped-call]
        else:
            found = self._credentials()
        credentials, own, source = found
        environment = self._settings.environment
        project = config.project_id or environment.get("GOOGLE_CLOUD_PROJECT", "") or own or self._gcloud_project()
        if not project:
            raise CredentialsRejected(
                f"no project is known (credentials: {source}); set gcp.project_id in the configuration, the variable "
                "GOOGLE_CLOUD_PROJECT, or run: gcloud config set project ID"
            )
        who = "anonymous" if endpoint else _principal(credentials)
        return Account(credentials, project, source, who, endpoint or _COMPUTE, endpoint or _TPU)

    def _file(self) -> tuple[Path, str]:
        """The file of credentials, and what names it."""
        if named := self._settings.environment.get("GOOGLE_APPLICATION_CREDENTIALS", ""):
            path = self._settings.home / named[2:] if named.startswith("~/") else Path(named)
            return path, "GOOGLE_APPLICATION_CREDENTIALS"
        path = self._gcloud() / "application_default_credentials.json"
        return path, str(path)

    def _stamp(self) -> tuple[str, ...]:
        """What changes when somebody logs in anew: a server that runs on is to see that."""
        try:
            stat = self._file()[0].stat()
        except OSError:
            return ()
        return (str(stat.st_mtime_ns), str(stat.st_size), str(stat.st_ino))

    def _credentials(self) -> tuple[Any, str, str]:
        """Credentials, the project that they name, and where they were found."""
        path, source = self._file()
        if source == "GOOGLE_APPLICATION_CREDENTIALS" or path.exists():
            return self._from_file(path, source)
        if self._on_google():
            return self._from_metadata()
        raise CredentialsRejected(
            f"no credentials: looked for GOOGLE_APPLICATION_CREDENTIALS and {path}; "
            "run: gcloud auth application-default login"
        )

    def _from_file(self, path: Path, source: str) -> tuple[Any, str, str]:
        try:
            with path.open("rb") as file:
                content = file.read(_LARGEST_FILE)
            information = json.loads(content)
            if not isinstance(information, Mapping):
                raise ValueError("no mapping")
            made, project = _loaded(information)
        except OSError as error:
            raise CredentialsRejected(f"credentials of {source} cannot be read: {error.strerror}: {path}") from None
        except (ValueError, google.auth.exceptions.GoogleAuthError) as error:
            # The words of a JSON error show no content, those of google-auth may name fields, never their values.
            raise CredentialsRejected(f"credentials in {path} are not usable: {type(error).__name__}") from None
        return made, str(project or information.get("quota_project_id") or ""), source

    @staticmethod
    def _on_google() -> bool:
        try:
            return _BIOS.read_text().strip().startswith("Google")
        except OSError:
            return False

    @staticmethod
    def _from_metadata() -> tuple[Any, str, str]:
        try:
            made, project = google.auth.default(scopes=_SCOPES)
        except google.auth.exceptions.GoogleAuthError as error:
            raise CredentialsRejected(f"this machine's service account cannot be used: {error}") from None
        return made, str(project or ""), "this machine's service account"

    def _gcloud(self) -> Path:
        """The folder of Google's command line."""
        named = self._settings.environment.get("CLOUDSDK_CONFIG", "")
        return Path(named) if named else self._settings.home / ".config" / "gcloud"

    def _gcloud_project(self) -> str:
        """The project that `gcloud config set project` chose; its file is read, since starting it takes a second."""
        folder = self._gcloud()
        try:
            active = (folder / "active_config").read_text().strip() or "default"
        except OSError:
            active = "default"
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string((folder / "configurations" / f"config_{active}").read_text())
        except (OSError, UnicodeDecodeError, configparser.Error):
            return ""
        return parser.get("core", "project", fallback="").strip()


def _loaded(information: Mapping[str, Any]) -> tuple[Any, object]:
    """Credentials of a file, with the project that it names. Raises ValueError or GoogleAuthError."""
    if information.get("type") == "service_account":
        made = service_account.Credentials.from_service_account_info(information, scopes=_SCOPES)  # type: ignore[no-untyped-call]
        return made, information.get("project_id")
    if information.get("type") == "authorized_user":
        return user.Credentials.from_authorized_user_info(information, scopes=_SCOPES), None  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        # Of the other kinds (federated and impersonated accounts) google-auth chooses by itself, and warns of files
        # from strangers: this one is where the user's own tools keep it.
        warnings.simplefilter("ignore", DeprecationWarning)
        made, project = google.auth.load_credentials_from_dict(information, scopes=_SCOPES)  # type: ignore[no-untyped-call]
    return made, project


def _principal(credentials: Any) -> str:
    """Who the credentials are: an e-mail address where it can be had, in a form that is the same tomorrow."""
    for name in ("service_account_email", "account"):
        value = getattr(credentials, name, "")
        if isinstance(value, str) and value not in ("", "default") and _PRINCIPAL.fullmatch(value):
            return value
    return _asked(credentials)


def _asked(credentials: Any) -> str:
    """Ask Google whose a user's login is: the file with it does not say."""
    try:
        session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
        credentials.refresh(session._auth_request)
        with session.post(_WHO, data={"access_token": credentials.token}, timeout=10) as answer:
            said = answer.json()
    except google.auth.exceptions.RefreshError as error:
        raise CredentialsRejected(
            f"the login has ended; run: gcloud auth application-default login ({error})"
        ) from None
    except (google.auth.exceptions.GoogleAuthError, OSError, ValueError) as error:
        raise ProviderDown(f"Google's login service does not answer: {type(error).__name__}", scope="account") from None
    found = said.get("email") or said.get("sub") or "" if isinstance(said, Mapping) else ""
    return found if isinstance(found, str) and _PRINCIPAL.fullmatch(found) else "user"
