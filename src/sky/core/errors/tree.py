"""Every failure this product can name.

Everybody raises these; users catch them as ``sky.exceptions.<Name>``. One tree, so that ``except SkyError`` means
"anything this product said"; where callers expect a built-in (``ValueError`` for a bad name), the class is both.

    SkyError
    ├─ resources    ResourcesUnavailableError, ResourcesMismatchError, NotSupportedError,
    │               ProvisionPrechecksError, ProvisionUnsupportedError, KubeAPIUnreachableError,
    │               InconsistentHighAvailabilityError
    ├─ settings     InvalidSkyPilotConfigError, KubernetesValidationError, InvalidCloudConfigs, InvalidCloudCredentials,
    │               CloudUserIdentityError, ClusterOwnerIdentityMismatchError, NoCloudAccessError, AWSAzFetchingError
    ├─ clusters     ClusterNotUpError, ClusterSetUpError, ClusterDoesNotExist, CachedClusterUnavailable,
    │               InvalidClusterNameError, FetchClusterInfoError ─ FetchIPError, ClusterStatusFetchingError,
    │               NetworkError, PortDoesNotExistError
    ├─ commands     CommandFailureException ─ CommandError
    ├─ jobs         JobError, ManagedJobReachedMaxRetriesError, ManagedJobStatusError, ManagedJobUserCancelledError,
    │               PoolDoesNotExistError, NoClusterLaunchedError
    ├─ services     ServeUserTerminatedError
    ├─ storage      StorageError ─ StorageInitError ─┬ StorageBucketCreateError
    │                 │                              └ StorageBucketGetError ─ StorageExternalDeletionError
    │                 │                                                        └ NonExistentStorageAccountError
    │                 ├ StorageBucketDeleteError
    │                 └ StorageUploadError
    │               StorageSpecError ─ StorageSourceError, StorageNameError, StorageModeError
    ├─ volumes      VolumeNotReadyError, VolumeNotFoundError, VolumeTopologyConflictError
    ├─ server       RequestCancelled, RequestAlreadyExistsError, RequestInterruptedError, ApiServerConnectionError,
    │               ApiServerAuthenticationError, APIVersionMismatchError, APINotSupportedError,
    │               ServerTemporarilyUnavailableError, ConcurrentWorkerExhaustedError, ExecutionRetryableError,
    │               ExecutionPausedError, ExecutionPoolFullError, ClientError, CloudError
    ├─ policy       UserRequestRejectedByPolicy, RestfulPolicyError, PermissionDeniedError, NoWorkspaceAccessError,
    │               InvalidWorkspaceNameError, WorkspaceAmbiguousError, BudgetExceededError
    ├─ other        GitError, InvalidRecipeNameError, RecipeAlreadyExistsError, SkyletInternalError,
    │               SkyletMethodNotImplementedError, SkyletUnavailableError
    ├─ providers    ProviderFailure ─ CapacityRefused, QuotaReached, CredentialsRejected, RequestInvalid, Throttled,
    │               ProviderDown, InstanceNotFound
    └─ agents       AgentUnreachable, AgentRefused

The docstring of a class is its meaning and, where none was given, its message.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import ClassVar


class SkyError(Exception):
    """The request failed."""

    #: Attributes that travel over the wire beside the message, each with the value it has when none was sent.
    #: The type of that value is also what a received one must have; ``None`` accepts any plain value.
    WIRE_FIELDS: ClassVar[Mapping[str, object]] = {}

    def __str__(self) -> str:
        if self.args:
            return str(self.args[0]) if len(self.args) == 1 else super().__str__()
        return (self.__doc__ or type(self).__name__).splitlines()[0]


class JobExitCode(enum.IntEnum):
    """Exit code of commands that follow a job: ``sky logs``, ``sky launch``, ``sky.tail_logs``."""

    SUCCEEDED = 0
    FAILED = 100
    NOT_FINISHED = 101
    NOT_FOUND = 102
    CANCELLED = 103

    @classmethod
    def from_job_status(cls, status: object | None) -> JobExitCode:
        """Return the exit code for a job status, given as enum or text; ``None`` means that there is no such job."""
        if status is None:
            return cls.NOT_FOUND
        word = str(getattr(status, "value", status)).upper()
        if word == "SUCCEEDED":
            return cls.SUCCEEDED
        if word == "CANCELLED":
            return cls.CANCELLED
        return cls.FAILED if word.startswith("FAILED") else cls.NOT_FINISHED


# --- resources ---------------------------------------------------------------------------------------------------


class ResourcesUnavailableError(SkyError):
    """No place has the requested resources.

    ``failover_history`` is empty when nothing could even be tried, else it holds one exception per refused place.
    ``no_failover`` says that trying elsewhere is pointless.
    """

    WIRE_FIELDS: ClassVar[Mapping[str, object]] = {"no_failover": False, "failover_history": []}

    def __init__(
        self, message: str = "", no_failover: bool = False, failover_history: Sequence[Exception] | None = None
    ) -> None:
        super().__init__(*((message,) if message else ()))
        self.no_failover = no_failover
        self.failover_history: list[Exception] = list(failover_history or ())

    def with_failover_history(self, failover_history: Sequence[Exception]) -> ResourcesUnavailableError:
        """Attach what was tried; returns self."""
        self.failover_history = list(failover_history)
        return self


class KubeAPIUnreachableError(ResourcesUnavailableError):
    """The Kubernetes API server of this context does not answer."""


class ResourcesMismatchError(SkyError):
    """The existing cluster does not have the resources that the task asks for."""


class NotSupportedError(SkyError):
    """This is not supported here."""


class ProvisionPrechecksError(SkyError):
    """The checks before provisioning failed; nothing was rented. ``reasons`` holds one exception per failed check."""

    WIRE_FIELDS: ClassVar[Mapping[str, object]] = {"reasons": []}

    def __init__(self, reasons: Sequence[Exception] | str = ()) -> None:
        self.reasons: list[Exception] = [] if isinstance(reasons, str) else list(reasons)
        text = reasons if isinstance(reasons, str) else "; ".join(str(reason) for reason in reasons)
        super().__init__(*((text,) if text else ()))


class ProvisionUnsupportedError(SkyError):
    """This infra cannot provision what was asked for."""


class InconsistentHighAvailabilityError(SkyError):
    """The controller that exists has another high-availability mode than the settings ask for."""


# --- settings and credentials ------------------------------------------------------------------------------------


class InvalidSkyPilotConfigError(SkyError, ValueError):
    """A task, resources, storage, service or settings text is not valid.

    path: where in the document the first problem lies, e.g. ``("resources", "accelerators")``.
    found, allowed, hint: what stood there, what may stand there, what was probably meant.
    problems: one line per problem; several problems of one document are reported together.
    """

    WIRE_FIELDS: ClassVar[Mapping[str, object]] = {"path": (), "found": "", "allowed": (), "hint": "", "problems": ()}

    def __init__(
        self,
        message: str = "",
        *,
        path: Sequence[str | int] = (),
        found: str = "",
        allowed: Sequence[str] = (),
        hint: str = "",
        problems: Sequence[str] = (),
    ) -> None:
        super().__init__(*((message,) if message else ()))
        self.path: tuple[str | int, ...] = tuple(path)
        self.found = found
        self.allowed: tuple[str, ...] = tuple(allowed)
        self.hint = hint
        self.problems: tuple[str, ...] = tuple(problems)


class KubernetesValidationError(SkyError, ValueError):
    """The Kubernetes settings were refused by the API server's schema."""


class InvalidCloudConfigs(SkyError):
    """The settings of this cloud are not usable."""


class InvalidCloudCredentials(SkyError):
    """The credentials of this cloud are missing, expired or refused."""


class CloudUserIdentityError(SkyError):
    """The identity behind the cloud credentials could not be read."""


class ClusterOwnerIdentityMismatchError(SkyError):
    """The cluster belongs to another cloud identity than the one in use."""


class NoCloudAccessError(SkyError):
    """No infra is enabled; `sky check` shows why for each."""


class AWSAzFetchingError(SkyError):
    """The availability zones of this AWS region could not be listed."""


# --- clusters ----------------------------------------------------------------------------------------------------


class ClusterNotUpError(SkyError):
    """The cluster is not UP.

    ``cluster_status`` is its status (an enum here, its plain word after crossing the wire) or ``None``;
    ``handle`` stays on this side.
    """

    WIRE_FIELDS: ClassVar[Mapping[str, object]] = {"cluster_status": None}

    def __init__(self, message: str = "", cluster_status: object | None = None, handle: object | None = None) -> None:
        super().__init__(*((message,) if message else ()))
        self.cluster_status = cluster_status
        self.handle = handle


class ClusterSetUpError(SkyError):
    """Setting up the cluster failed."""


class ClusterDoesNotExist(SkyError, ValueError):
    """There is no cluster of this name."""


class CachedClusterUnavailable(SkyError):
    """The recorded cluster is no longer reachable."""


class InvalidClusterNameError(SkyError):
    """The cluster name has characters that are not allowed."""


class FetchClusterInfoError(SkyError):
    """The addresses of the cluster's nodes could not be read."""


class FetchIPError(FetchClusterInfoError):
    """The addresses of the cluster's nodes could not be read (old name)."""


class ClusterStatusFetchingError(SkyError):
    """The status of the cluster could not be read from its infra."""


class NetworkError(SkyError):
    """The network is not reachable."""


class PortDoesNotExistError(SkyError):
    """This port is not open on the cluster."""


# --- commands ----------------------------------------------------------------------------------------------------


class CommandFailureException(SkyError):
    """A command on a node failed."""


class CommandError(CommandFailureException):
    """A command on a node failed.

    returncode: its exit status. command: what was run (shortened in the message). detailed_reason: its last output.
    """

    WIRE_FIELDS: ClassVar[Mapping[str, object]] = {
        "returncode": 1,
        "command": "",
        "error_msg": "",
        "detailed_reason": None,
    }

    def __init__(self, returncode: int, command: str, error_msg: str, detailed_reason: str | None = None) -> None:
        self.returncode = returncode
        self.command = command
        self.error_msg = error_msg
        self.detailed_reason = detailed_reason
        shown = command if len(command) <= _COMMAND_SHOWN else command[:_COMMAND_SHOWN] + "…"
        what = f"Command {shown} failed with return code {returncode}." if command else error_msg
        super().__init__(f"{what}\n{error_msg}" if command and error_msg else what)


#: Characters of a failed command that its message repeats; scripts of thousands of lines would bury the reason.
_COMMAND_SHOWN = 160


# --- jobs and services -------------------------------------------------------------------------------------------


class JobError(SkyError):
    """The job failed."""


class ManagedJobReachedMaxRetriesError(SkyError):
    """The managed job was restarted as often as allowed and failed again."""


class ManagedJobStatusError(SkyError):
    """The status of the managed job could not be read or does not allow this."""


class ManagedJobUserCancelledError(SkyError):
    """The managed job was cancelled by its user."""


class PoolDoesNotExistError(SkyError, ValueError):
    """There is no pool of this name."""


class NoClusterLaunchedError(SkyError):
    """No cluster was launched for the managed job."""


class ServeUserTerminatedError(SkyError):
    """The service was terminated by its user while it was starting."""


# --- storage and volumes -----------------------------------------------------------------------------------------


class StorageError(SkyError):
    """The storage operation failed."""


class StorageInitError(StorageError):
    """The storage could not be prepared."""


class StorageBucketCreateError(StorageInitError):
    """The bucket could not be created."""


class StorageBucketGetError(StorageInitError):
    """The bucket could not be reached."""


class StorageExternalDeletionError(StorageBucketGetError):
    """The bucket was deleted outside of sky."""


class NonExistentStorageAccountError(StorageExternalDeletionError):
    """The storage account does not exist."""


class StorageBucketDeleteError(StorageError):
    """The bucket could not be deleted."""


class StorageUploadError(StorageError):
    """The upload to the bucket failed."""


class StorageSpecError(SkyError, ValueError):
    """The storage specification is not valid."""


class StorageSourceError(StorageSpecError):
    """The source of the storage is not valid."""


class StorageNameError(StorageSpecError):
    """The name of the storage is not valid."""


class StorageModeError(StorageSpecError):
    """The mode of the storage is not valid."""


class VolumeNotReadyError(SkyError):
    """The volume is not ready."""


class VolumeNotFoundError(SkyError):
    """There is no volume of this name."""


class VolumeTopologyConflictError(SkyError, ValueError):
    """The volumes of the task lie in different places, so no node can mount them all."""


# --- requests and the server -------------------------------------------------------------------------------------


class RequestCancelled(SkyError):
    """The request was cancelled."""


class RequestAlreadyExistsError(SkyError):
    """There is already a request of this id."""


class RequestInterruptedError(SkyError):
    """The request was interrupted because the server stopped; run it again."""


class ApiServerConnectionError(SkyError, RuntimeError):
    """The API server does not answer."""


class ApiServerAuthenticationError(SkyError, RuntimeError):
    """The API server refused the token or login; `sky api login` makes a new one."""


class APIVersionMismatchError(SkyError, RuntimeError):
    """Client and API server are too far apart in version."""


class APINotSupportedError(SkyError, RuntimeError):
    """The API server is too old for this call."""


class ServerTemporarilyUnavailableError(SkyError):
    """The API server is busy or restarting; try again."""


class ConcurrentWorkerExhaustedError(SkyError):
    """The API server has no free worker."""


class ExecutionRetryableError(SkyError):
    """The step failed for now. ``hint`` says why; ``retry_wait_seconds`` when to try again."""

    WIRE_FIELDS: ClassVar[Mapping[str, object]] = {"hint": "", "retry_wait_seconds": 0}

    def __init__(self, message: str = "", *, hint: str = "", retry_wait_seconds: int = 0) -> None:
        super().__init__(*((message,) if message else ()))
        self.hint = hint
        self.retry_wait_seconds = retry_wait_seconds


class ExecutionPausedError(SkyError):
    """The step is paused until it is resumed."""


class ExecutionPoolFullError(SkyError):
    """The pool that should run this has no free place."""


class ClientError(SkyError):
    """The request was refused as malformed."""


class CloudError(SkyError):
    """A failure of a class that this side does not know: ``cloud_provider`` and ``error_type`` say whose and which."""

    WIRE_FIELDS: ClassVar[Mapping[str, object]] = {"cloud_provider": "", "error_type": ""}

    def __init__(self, message: str = "", cloud_provider: str = "", error_type: str = "") -> None:
        super().__init__(*((message,) if message else ()))
        self.cloud_provider = cloud_provider
        self.error_type = error_type


# --- policy, users, workspaces, other ----------------------------------------------------------------------------


class UserRequestRejectedByPolicy(SkyError):
    """The administrator's policy rejected the request."""


class RestfulPolicyError(SkyError):
    """The administrator's policy server failed."""


class PermissionDeniedError(SkyError):
    """Your role does not permit this."""


class NoWorkspaceAccessError(PermissionDeniedError):
    """You have no access to this workspace."""


class InvalidWorkspaceNameError(SkyError, ValueError):
    """The workspace name is not valid."""


class WorkspaceAmbiguousError(SkyError):
    """Several workspaces are open to you; choose one with `active_workspace`."""


class BudgetExceededError(SkyError):
    """A budget does not allow it: what was spent, what is reserved and what is asked for come to more."""


class GitError(SkyError):
    """The git operation failed."""


class InvalidRecipeNameError(SkyError, ValueError):
    """The recipe name is not valid."""


class RecipeAlreadyExistsError(SkyError, ValueError):
    """There is already a recipe of this name."""


class SkyletInternalError(SkyError):
    """The agent on the node failed."""


class SkyletMethodNotImplementedError(SkyError):
    """The agent on the node is too old for this call."""


class SkyletUnavailableError(SkyError):
    """The agent on the node does not answer."""


# --- what a provider may answer ----------------------------------------------------------------------------------


class ProviderFailure(SkyError):
    """A place with compute refused or failed.

    reason: the place's own words, made readable. scope: how much the failure condemns, which is what failover needs:
    ``zone``, ``region``, ``instance_type``, ``capacity_type``, ``quota`` (this type as it is rented, in this region),
    ``account`` or ``request``.
    """

    SCOPES: ClassVar[tuple[str, ...]] = (
        "zone", "region", "instance_type", "capacity_type", "quota", "account", "request",
    )  # fmt: skip
    DEFAULT_SCOPE: ClassVar[str] = "request"
    WIRE_FIELDS: ClassVar[Mapping[str, object]] = {"reason": "", "scope": "request"}

    def __init__(self, reason: str = "", *, scope: str | None = None) -> None:
        super().__init__(*((reason,) if reason else ()))
        self.reason = reason or str(self)
        self.scope = scope or self.DEFAULT_SCOPE
        if self.scope not in self.SCOPES:
            raise ValueError(f"Unknown scope of a provider failure: {scope!r}; allowed: {', '.join(self.SCOPES)}.")


class CapacityRefused(ProviderFailure):
    """The place has no capacity of this kind now."""

    DEFAULT_SCOPE = "zone"


class QuotaReached(ProviderFailure):
    """The account's quota is used up."""

    DEFAULT_SCOPE = "region"


class CredentialsRejected(ProviderFailure):
    """The place refused the credentials."""

    DEFAULT_SCOPE = "account"


class RequestInvalid(ProviderFailure):
    """The place says that the request can never work as it is."""

    DEFAULT_SCOPE = "request"


class Throttled(ProviderFailure):
    """The place asks for fewer calls; ``retry_after`` is the pause in seconds that it asked for."""

    DEFAULT_SCOPE = "account"
    WIRE_FIELDS: ClassVar[Mapping[str, object]] = {**ProviderFailure.WIRE_FIELDS, "retry_after": 1.0}

    def __init__(self, reason: str = "", *, retry_after: float = 1.0, scope: str | None = None) -> None:
        super().__init__(reason, scope=scope)
        self.retry_after = float(retry_after)


class ProviderDown(ProviderFailure):
    """The place does not answer or answers with an error of its own."""

    DEFAULT_SCOPE = "region"


class InstanceNotFound(ProviderFailure):
    """There is no such instance."""

    DEFAULT_SCOPE = "request"


class AgentUnreachable(SkyError):
    """The agent on a node does not answer; the node and its jobs may be well all the same."""


class AgentRefused(SkyError):
    """The agent on a node answered with an error; asking again gives the same answer."""


def not_supported(feature: str, where: str = "", *, instead: str = "") -> NotSupportedError:
    """Return the error for a feature that parses but cannot be carried out, e.g. ``("s3 mounts", "local")``."""
    place = f" on {where}" if where else ""
    return NotSupportedError(f"{feature} is not supported yet{place}." + (f" {instead}" if instead else ""))
