"""Google's REST interfaces: signed requests in threads, answers of checked shape, failures of `errors`, operations.

Every room of this folder that talks to Google does it through `Rest`. The client libraries of Google are not used:
they bring gRPC and protocol buffers, several times the size of this product, and hide which request is repeated.
"""

import json
import re
import threading
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import google.auth.exceptions
import requests
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession

from sky.core.errors import CredentialsRejected, InstanceNotFound, ProviderDown, Throttled
from sky.kit.backoff import delays
from sky.kit.clock import Clock, SystemClock
from sky.providers.blocking import Calls
from sky.providers.gcp import errors
from sky.providers.gcp.access import Account, Accounts
from sky.providers.gcp.config import GcpConfig

Json = Mapping[str, Any]

_TIMEOUT_S = (5.0, 60.0)
_LARGEST = 64 << 20
_CHUNK = 1 << 16
#: How often a request is sent at most when the place is down or asks for fewer; then that is the answer.
_TRIES = 5
_FIRST_DELAY_S = 0.25
_LONGEST_DELAY_S = 8.0
#: Pages of a list at most; a place that never says that it is at the end is broken.
_PAGES = 1000
#: Operations are asked for, not waited for: a waiting call would hold a thread for minutes.
_FIRST_LOOK_S = 0.2
_LONGEST_LOOK_S = 3.0
_OPERATION_S = 1800.0
_WORD = re.compile(r"[\w.:-]{1,128}")


class Rest:
    """One account's way to Google's interfaces. Paths are those of Compute Engine below `/compute/v1/projects/ID/`."""

    def __init__(self, accounts: Accounts, calls: Calls | None = None, clock: Clock | None = None) -> None:
        self._accounts = accounts
        self._calls = calls or Calls()
        self._clock = clock or SystemClock()
        self._sessions = threading.local()

    async def close(self) -> None:
        """Let go of the threads."""
        await self._calls.close()

    async def account(self, config: GcpConfig) -> Account:
        """Who asks. Raises CredentialsRejected."""
        return await self._calls.run(self._accounts.account, config)

    async def get(self, account: Account, path: str, **query: str) -> Json:
        """Raises ProviderFailure; InstanceNotFound for what is not there."""
        return await self._patiently(account, "GET", _compute(account, path), None, query)

    async def post(self, account: Account, path: str, body: Json | None = None, **query: str) -> Json:
        """A change, as an operation. Sent again under the same mark if its answer was lost, so that it is made once."""
        query.setdefault("requestId", str(uuid.uuid4()))
        return await self._patiently(account, "POST", _compute(account, path), body or {}, query)

    async def patch(self, account: Account, path: str, body: Json) -> Json:
        """As `post`."""
        return await self._patiently(account, "PATCH", _compute(account, path), body, {"requestId": str(uuid.uuid4())})

    async def delete(self, account: Account, path: str) -> Json | None:
        """The operation, or None for what is gone already."""
        try:
            return await self._patiently(
                account, "DELETE", _compute(account, path), None, {"requestId": str(uuid.uuid4())}
            )
        except InstanceNotFound:
            return None

    async def send(
        self, account: Account, verb: str, url: str, body: Json | None = None, query: Mapping[str, str] | None = None
    ) -> Json:
        """A request to another interface of Google, by its whole address."""
        return await self._patiently(account, verb, url, body, query or {})

    async def pages(self, account: Account, path: str, **query: str) -> AsyncIterator[Json]:
        """All pages of a list."""
        token = ""
        for _ in range(_PAGES):
            page = await self.get(account, path, **query, **({"pageToken": token} if token else {}))
            yield page
            token = str(page.get("nextPageToken") or "")
            if not token:
                return
        raise ProviderDown(f"the list {path} has no end", scope="account")

    async def places(self, account: Account, kind: str, name: str) -> Sequence[str]:
        """Zones or regions in which there is something of this kind and name."""
        found = []
        async for page in self.pages(account, f"aggregated/{kind}", filter=f'name="{name}"'):
            items = page.get("items")
            for where, part in items.items() if isinstance(items, Mapping) else ():
                listed = part.get(kind) if isinstance(part, Mapping) else None
                if any(isinstance(each, Mapping) and each.get("name") == name for each in listed or ()):
                    found.append(str(where).rpartition("/")[2])
        return sorted(found)

    async def wait(self, account: Account, operation: Json | None) -> None:
        """Until an operation is done. Raises what it failed with; ProviderDown after half an hour."""
        if operation is None:
            return
        path = _operation_path(account, operation)
        until = self._clock.now() + _OPERATION_S
        for delay in delays(_FIRST_LOOK_S, 1.4, _LONGEST_LOOK_S):
            if operation.get("status") == "DONE":
                break
            if self._clock.now() > until:
                raise ProviderDown(f"operation {path} is not done after {_OPERATION_S:.0f} s", scope="zone")
            await self._clock.sleep(delay)
            operation = await self.get(account, path)
        if (failed := errors.from_operation(operation)) is not None:
            raise failed

    async def done(self, account: Account, path: str, body: Json | None = None, **query: str) -> None:
        """Post a change and wait for it."""
        await self.wait(account, await self.post(account, path, body, **query))

    async def removed(self, account: Account, path: str) -> None:
        """Delete and wait; what is gone already is no failure. Waits for what still uses it."""
        for delay in delays(_FIRST_DELAY_S * 2, 2.0, _LONGEST_DELAY_S):
            try:
                return await self.wait(account, await self.delete(account, path))
            except errors.StillBusy:
                if delay >= _LONGEST_DELAY_S * 0.9:
                    raise
                await self._clock.sleep(delay)
            except InstanceNotFound:
                return None
        return None

    # --- parts ---------------------------------------------------------------------------------------------------

    async def _patiently(
        self, account: Account, verb: str, url: str, body: Json | None, query: Mapping[str, str]
    ) -> Json:
        """Send, and again while the place is down or asks for fewer calls: all of these may be sent twice."""
        left = _TRIES
        # A gang's requests go out together, and must not come back together.
        for delay in delays(_FIRST_DELAY_S, 2.0, _LONGEST_DELAY_S, jitter=0.5):
            left -= 1
            try:
                return await self._calls.run(self._send, account, verb, url, body, query)
            except (ProviderDown, Throttled) as failure:
                # What is to be removed and still in use is waited for by `removed`, longer than this.
                if not left or (isinstance(failure, errors.StillBusy) and verb == "DELETE"):
                    raise
                asked = failure.retry_after if isinstance(failure, Throttled) else 0.0
            await self._clock.sleep(max(delay, min(asked, _LONGEST_DELAY_S)) if asked > 1 else delay)
        raise AssertionError("delays are endless")

    def _send(self, account: Account, verb: str, url: str, body: Json | None, query: Mapping[str, str]) -> Json:
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        try:
            with self._session(account).request(
                verb, url, params=query, data=data, headers=headers, timeout=_TIMEOUT_S, stream=True
            ) as answer:
                return _read(answer, making=verb == "POST")
        except google.auth.exceptions.RefreshError as error:
            raise CredentialsRejected(
                f"Google takes the credentials no more ({errors.clean(str(error))[:200]}); "
                "run: gcloud auth application-default login"
            ) from None
        except google.auth.exceptions.GoogleAuthError as error:
            raise ProviderDown(f"Google's login service: {type(error).__name__}", scope="account") from None
        except (requests.RequestException, OSError) as error:
            host = url.split("/")[2]
            raise ProviderDown(f"{host} does not answer: {type(error).__name__}", scope="account") from None

    def _session(self, account: Account) -> requests.Session:
        """One for each thread and account: sessions are not made for several threads at once."""
        held: tuple[Account, requests.Session] | None = getattr(self._sessions, "held", None)
        if held is None or held[0] is not account:
            session: requests.Session
            if isinstance(account.credentials, AnonymousCredentials):
                session = requests.Session()
            else:
                session = AuthorizedSession(account.credentials)  # type: ignore[no-untyped-call]
            held = self._sessions.held = (account, session)
        return held[1]


def _read(answer: Any, *, making: bool) -> Json:
    content = bytearray()
    for piece in answer.iter_content(_CHUNK):
        content += piece
        if len(content) > _LARGEST:
            raise ProviderDown(f"an answer larger than {_LARGEST >> 20} MiB", scope="account")
    try:
        body = json.loads(bytes(content)) if content else {}
    except ValueError:
        body = None
    if answer.status_code >= 400:
        raise errors.from_http(
            answer.status_code, body, retry_after=_seconds(answer.headers.get("Retry-After")), making=making
        )
    if not isinstance(body, Mapping):
        raise ProviderDown("an answer that is no JSON object", scope="account")
    return body


def _seconds(value: str | None) -> float | None:
    try:
        return max(0.0, min(float(value), 60.0)) if value else None
    except ValueError:
        return None


def _compute(account: Account, path: str) -> str:
    """The address of a path; one that begins with a slash names another project itself."""
    inside = path[1:] if path.startswith("/") else f"projects/{account.project}/{path}"
    return f"{account.compute}/compute/v1/{inside}"


def _operation_path(account: Account, operation: Json) -> str:
    """Where an operation is asked for: by its own words on its place, never by the address that it gives."""
    project = str(operation.get("selfLink", "")).partition("/projects/")[2].partition("/")[0] or account.project
    parts = [project, str(operation.get("name", ""))]
    place = "global"
    for kind in ("zone", "region"):
        if value := str(operation.get(kind) or "").rpartition("/")[2]:
            place = f"{kind}s/{value}"
            parts.append(value)
            break
    if not all(_WORD.fullmatch(part) for part in parts):
        raise ProviderDown("an operation without a usable name", scope="account")
    return f"/projects/{project}/{place}/operations/{parts[1]}"
