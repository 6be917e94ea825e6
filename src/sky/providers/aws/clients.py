"""Asks Amazon's services: credentials as every tool of theirs finds them, one client per service and region.

botocore in threads: it is what users' other tools bring, it has every way to log in, and its pins are loose; the few
calls that a cluster takes are slow ones, so threads cost nothing that matters. Every failure leaves here typed.
"""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import botocore.session  # type: ignore[import-untyped]
from botocore import xform_name
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import NoCredentialsError  # type: ignore[import-untyped]

from sky.core.errors import CredentialsRejected, ProviderDown, ProviderFailure, RequestInvalid, Throttled
from sky.kit.backoff import delays
from sky.kit.clock import Clock, SystemClock
from sky.providers.aws.config import read
from sky.providers.aws.errors import ASKING, code_of, failure
from sky.providers.blocking import Calls
from sky.providers.registry import Settings

T = TypeVar("T")
Answer = Mapping[str, Any]

#: Where questions go that are no region's.
_HOME = "us-east-1"
#: Tries of a call that met no answer, or was asked to come again; then the engine decides.
_TRIES = 4
#: Regions that are asked at once.
_AT_ONCE = 12
#: Pages of a list; one with more is not believed.
_PAGES = 1000
#: Things on a page of lists that may be long: EC2 gives up on those that are asked for in one piece.
_ON_PAGE = 500
_LONG = ("DescribeInstances", "DescribeImages", "DescribeSnapshots", "DescribeSecurityGroups")
#: Seconds to connect, and to wait for an answer. A launch of many machines is answered late.
_CONNECT_S, _READ_S = 10.0, 60.0
_LOGIN_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL")
#: Files by which a machine of Amazon's is known, new ones and old ones.
_SIGNS = ((Path("/sys/class/dmi/id/sys_vendor"), "amazon"), (Path("/sys/hypervisor/uuid"), "ec2"))
#: What a key that is refused in one place only means: the region is not switched on for the account.
_PERHAPS_REGION = ("AuthFailure", "UnrecognizedClientException", "InvalidClientTokenId")


class Clients:
    """See the module. One for the provider; made anew inside when the profile of the configuration changes."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self._settings = settings
        self.clock = clock or SystemClock()
        self._calls = Calls(2 * _AT_ONCE)
        self._lock = threading.Lock()
        self._session: botocore.session.Session | None = None
        self._stands_on: tuple[object, ...] = ()
        self._clients: dict[tuple[str, str], Any] = {}

    async def close(self) -> None:
        """Let go of the threads."""
        await self._calls.close()

    async def call(
        self, service: str, region: str, operation: str, parameters: Mapping[str, object] | None = None
    ) -> Answer:
        """What an operation answers, e.g. `call("ec2", "us-east-1", "DescribeVpcs")`. Raises ProviderFailures."""
        return await self._patiently(
            lambda: self._calls.run(self._ask, service, region, operation, parameters or {}),
            f"{operation} in {region}",
            region,
        )

    async def ec2(self, region: str, operation: str, /, **parameters: object) -> Answer:
        """As `call`, of EC2."""
        return await self.call("ec2", region, operation, parameters)

    async def pages(self, region: str, operation: str, key: str, /, **parameters: object) -> list[Any]:
        """All of an EC2 list, page after page. Raises as `call`."""
        found: list[Any] = []
        asked: dict[str, object] = {**parameters, **({"MaxResults": _ON_PAGE} if operation in _LONG else {})}
        token: str | None = None
        for _ in range(_PAGES):
            answer = await self.ec2(region, operation, **asked, **({"NextToken": token} if token else {}))
            found += answer.get(key) or ()
            token = answer.get("NextToken")
            if not token:
                return found
        raise ProviderDown(f"{operation} in {region} came back with more than {_PAGES} pages")

    async def everywhere(
        self, regions: Collection[str] | None, ask: Callable[[str], Awaitable[T]]
    ) -> Sequence[tuple[str, T]]:
        """The answers of regions (None: all that the account has switched on), asked side by side, but few at once.

        The first failure is raised when all have ended.
        """
        names = sorted(set(regions)) if regions is not None else await self.regions()
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(region: str) -> tuple[str, T]:
            async with gate:
                return region, await ask(region)

        answers = await asyncio.gather(*(one(name) for name in names), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    async def regions(self) -> Sequence[str]:
        """Regions that the account has switched on, sorted."""
        answer = await self.ec2(self.home_region, "DescribeRegions", AllRegions=False)
        names = sorted(str(each.get("RegionName", "")) for each in answer.get("Regions") or ())
        return [name for name in names if name]

    async def identity(self) -> tuple[str, str]:
        """Account and user id of whoever asks. Raises CredentialsRejected."""
        answer = await self.call("sts", self.home_region, "GetCallerIdentity")
        return str(answer.get("Account", "")), str(answer.get("UserId", ""))

    @property
    def home_region(self) -> str:
        """The region of this user's settings."""
        environment = self._settings.environment
        return environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or _HOME

    @property
    def profile(self) -> str | None:
        """The profile to work under; None for the default one."""
        return read(self._settings.config()).profile or self._settings.environment.get("AWS_PROFILE") or None

    # --- parts ---------------------------------------------------------------------------------------------------

    async def _patiently(self, ask: Callable[[], Awaitable[Answer]], doing: str, region: str) -> Answer:
        """Ask again where asking again may help: AWS is slow to say no for good, and every write here can be repeated
        (launches carry a token, the rest says what is to be).
        """
        pauses = delays(0.3, ceiling=3.0, jitter=0.3)
        tries = _TRIES
        while True:
            tries -= 1
            try:
                return await ask()
            except ASKING as error:
                failed = failure(error, doing)
                if isinstance(failed, Throttled | ProviderDown) and tries > 0:
                    await self.clock.sleep(next(pauses))
                    continue
                raise await self._in_its_place(failed, code_of(error), region) from error

    async def _in_its_place(self, failed: ProviderFailure, code: str, region: str) -> ProviderFailure:
        """A key that another region takes is not wrong: this region is not switched on."""
        if code not in _PERHAPS_REGION or not isinstance(failed, CredentialsRejected) or region == self.home_region:
            return failed
        try:
            await self.identity()
        except ProviderFailure:
            return failed
        return CredentialsRejected(
            f"{failed.reason}; elsewhere the same credentials are taken: switch the region {region} on in the AWS "
            "console (Account, AWS Regions), or leave it out",
            scope="region",
        )

    def _ask(self, service: str, region: str, operation: str, parameters: Mapping[str, object]) -> Answer:
        client = self._client(service, region)
        answer: Answer = getattr(client, xform_name(operation))(**parameters)
        return answer

    def _client(self, service: str, region: str) -> Any:
        """Made one at a time: a session of botocore is not to be used by several threads at once, its clients are."""
        if not region:
            raise RequestInvalid("no region was named")
        with self._lock:
            basis = self._basis()
            if self._session is None or basis != self._stands_on:
                self._session, self._stands_on, self._clients = self._open(self.profile), basis, {}
            if self._session.get_credentials() is None:
                raise NoCredentialsError  # before the description of a service is loaded, which takes tens of MB
            key = (service, region)
            if key not in self._clients:
                environment = self._settings.environment
                self._clients[key] = self._session.create_client(
                    service,
                    region_name=region,
                    endpoint_url=_endpoint(service, environment),
                    verify=environment.get("AWS_CA_BUNDLE") or None,
                    config=Config(
                        connect_timeout=_CONNECT_S,
                        read_timeout=_READ_S,
                        max_pool_connections=2 * _AT_ONCE,
                        retries={"total_max_attempts": 1},
                        parameter_validation=True,
                    ),
                )
            return self._clients[key]

    def _files(self) -> Mapping[str, Path]:
        """Files of credentials and settings, by what botocore calls them."""
        environment, folder = self._settings.environment, self._settings.home / ".aws"
        return {
            "credentials_file": Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or folder / "credentials"),
            "config_file": Path(environment.get("AWS_CONFIG_FILE") or folder / "config"),
        }

    def _basis(self) -> tuple[object, ...]:
        """What the login is made of: who logs in anew is seen by a server that runs on."""
        environment = self._settings.environment
        stats = [path.stat() if path.is_file() else None for path in self._files().values()]
        seen = [(stat.st_mtime_ns, stat.st_size, stat.st_ino) if stat else None for stat in stats]
        return (self.profile, *seen, *(environment.get(name) for name in _LOGIN_VARIABLES))

    def _open(self, profile: str | None) -> botocore.session.Session:
        """A session that reads this provider's environment and home, which need not be those of the process."""
        environment = self._settings.environment
        session = botocore.session.Session()
        for variable, path in self._files().items():
            session.set_config_variable(variable, str(path))
        if profile is not None:
            session.set_config_variable("profile", profile)
        key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
        if key and secret and read(self._settings.config()).profile is None:
            session.set_credentials(key, secret, environment.get("AWS_SESSION_TOKEN"))
            return session
        resolver = session.get_component("credential_provider")
        resolver.remove("env")
        if environment is not os.environ:
            # These look into the environment of the process, whatever they are told.
            for name in ("container-role", "assume-role-with-web-identity", "boto-config", "ec2-credentials-file"):
                resolver.remove(name)
        if not _on_amazon(environment):
            resolver.remove("iam-role")
        return session


def _on_amazon(environment: Mapping[str, str]) -> bool:
    """Whether this may be a machine of Amazon's with a role of its own. Elsewhere nobody answers, after seconds."""
    if environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return False
    if environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT"):
        return True
    for path, begin in _SIGNS:
        try:
            if path.read_text().lower().startswith(begin):
                return True
        except (OSError, ValueError):
            continue
    return False


def _endpoint(service: str, environment: Mapping[str, str]) -> str | None:
    if environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    own = service.upper().replace("-", "_")
    return environment.get(f"AWS_ENDPOINT_URL_{own}") or environment.get("AWS_ENDPOINT_URL") or None
