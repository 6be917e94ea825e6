"""The exception tree: names that programs import, messages, and the way over the wire."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sky.core import errors
from sky.core.errors import JobExitCode, SkyError, error_classes, from_wire, to_wire

INTERFACE_NAMES = frozenset(
    [
        "ResourcesUnavailableError",
        "KubeAPIUnreachableError",
        "ResourcesMismatchError",
        "NotSupportedError",
        "ProvisionPrechecksError",
        "ProvisionUnsupportedError",
        "InconsistentHighAvailabilityError",
        "InvalidSkyPilotConfigError",
        "KubernetesValidationError",
        "InvalidCloudConfigs",
        "InvalidCloudCredentials",
        "CloudUserIdentityError",
        "ClusterOwnerIdentityMismatchError",
        "NoCloudAccessError",
        "AWSAzFetchingError",
        "ClusterNotUpError",
        "ClusterSetUpError",
        "ClusterDoesNotExist",
        "CachedClusterUnavailable",
        "InvalidClusterNameError",
        "FetchClusterInfoError",
        "FetchIPError",
        "ClusterStatusFetchingError",
        "NetworkError",
        "PortDoesNotExistError",
        "CommandFailureException",
        "CommandError",
        "ManagedJobReachedMaxRetriesError",
        "ManagedJobStatusError",
        "ManagedJobUserCancelledError",
        "PoolDoesNotExistError",
        "NoClusterLaunchedError",
        "JobError",
        "ServeUserTerminatedError",
        "StorageError",
        "StorageInitError",
        "StorageBucketCreateError",
        "StorageBucketGetError",
        "StorageExternalDeletionError",
        "NonExistentStorageAccountError",
        "StorageBucketDeleteError",
        "StorageUploadError",
        "StorageSpecError",
        "StorageSourceError",
        "StorageNameError",
        "StorageModeError",
        "VolumeNotReadyError",
        "VolumeNotFoundError",
        "VolumeTopologyConflictError",
        "RequestCancelled",
        "RequestAlreadyExistsError",
        "RequestInterruptedError",
        "ApiServerConnectionError",
        "ApiServerAuthenticationError",
        "APIVersionMismatchError",
        "APINotSupportedError",
        "ServerTemporarilyUnavailableError",
        "ConcurrentWorkerExhaustedError",
        "ExecutionRetryableError",
        "ExecutionPausedError",
        "ExecutionPoolFullError",
        "ClientError",
        "CloudError",
        "UserRequestRejectedByPolicy",
        "RestfulPolicyError",
        "PermissionDeniedError",
        "NoWorkspaceAccessError",
        "InvalidWorkspaceNameError",
        "WorkspaceAmbiguousError",
        "GitError",
        "InvalidRecipeNameError",
        "RecipeAlreadyExistsError",
        "SkyletInternalError",
        "SkyletMethodNotImplementedError",
        "SkyletUnavailableError",
    ]
)

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("name", sorted(INTERFACE_NAMES))
def test_every_name_of_the_interface_is_there(name: str) -> None:
    from sky import exceptions

    assert issubclass(getattr(exceptions, name), SkyError)
    assert getattr(exceptions, name) is getattr(errors, name)


@pytest.mark.parametrize("name", sorted(error_classes()))
def test_every_class_round_trips(name: str) -> None:
    cls = error_classes()[name]
    exc = cls(7, "ls", "denied", "tail") if cls is errors.CommandError else cls("what happened")
    back = from_wire(json.loads(json.dumps(to_wire(exc))))
    assert type(back) is cls
    assert str(back) == str(exc)
    for field in cls.WIRE_FIELDS:
        assert getattr(back, field) == getattr(exc, field), field


@pytest.mark.parametrize("name", sorted(set(error_classes()) - {"CommandError"}))
def test_the_docstring_is_the_message_of_a_bare_exception(name: str) -> None:
    cls = error_classes()[name]
    assert str(cls()) == str(cls.__doc__).splitlines()[0]


@pytest.mark.parametrize(
    "cls",
    [ValueError, TypeError, KeyError, PermissionError, TimeoutError, NotImplementedError, FileNotFoundError],
)
def test_builtins_keep_class_and_words(cls: type[Exception]) -> None:
    back = from_wire(to_wire(cls("no such thing")))
    assert type(back) is cls
    assert back.args == ("no such thing",)


def test_a_foreign_class_becomes_cloud_error() -> None:
    class FloodError(RuntimeError):
        pass

    back = from_wire(to_wire(FloodError("water")))
    assert type(back) is errors.CloudError
    assert (str(back), back.error_type) == ("water", "FloodError")


def test_a_subclass_from_elsewhere_is_not_rebuilt() -> None:
    class ClusterGone(errors.ClusterDoesNotExist):
        pass

    assert type(from_wire(to_wire(ClusterGone("x")))) is errors.CloudError


def test_failover_history_crosses_as_exceptions() -> None:
    refused = errors.CapacityRefused("sold out", scope="zone")
    exc = errors.ResourcesUnavailableError("nowhere", no_failover=True, failover_history=[refused, ValueError("bad")])
    back = from_wire(json.loads(json.dumps(to_wire(exc))))
    assert isinstance(back, errors.ResourcesUnavailableError)
    assert back.no_failover is True
    assert [(type(e), str(e)) for e in back.failover_history] == [
        (errors.CapacityRefused, "sold out"),
        (ValueError, "bad"),
    ]
    first = back.failover_history[0]
    assert isinstance(first, errors.CapacityRefused)
    assert (first.scope, first.reason) == ("zone", "sold out")


def test_not_finite_numbers_do_not_break_json() -> None:
    exc = errors.Throttled("slow", retry_after=math.inf)
    back = from_wire(json.loads(json.dumps(to_wire(exc), allow_nan=False)))
    assert isinstance(back, errors.Throttled)
    assert back.retry_after == 1.0


def test_endless_nesting_is_cut() -> None:
    exc: Exception = ValueError("core")
    for _ in range(200):
        exc = errors.ResourcesUnavailableError("outer", failover_history=[exc])
    data = to_wire(exc)
    assert len(json.dumps(data)) < 5000
    assert isinstance(from_wire(data), errors.ResourcesUnavailableError)


@given(JUNK)
def test_junk_never_raises(junk: object) -> None:
    assert isinstance(from_wire(junk), Exception)


@given(st.sampled_from(sorted(error_classes())), st.dictionaries(st.text(max_size=12), JUNK, max_size=4), JUNK)
def test_junk_details_never_raise(name: str, details: dict[str, object], value: object) -> None:
    fields = dict.fromkeys(error_classes()[name].WIRE_FIELDS, value)
    back = from_wire({"type": name, "message": "m", "details": {**details, **fields}})
    assert type(back) is error_classes()[name]
    assert str(back) == "m"


def test_builtin_bases_that_callers_rely_on() -> None:
    for cls in (errors.ClusterDoesNotExist, errors.InvalidSkyPilotConfigError, errors.StorageSpecError):
        assert issubclass(cls, ValueError)
    assert issubclass(errors.NonExistentStorageAccountError, errors.StorageInitError)
    assert issubclass(errors.CommandError, errors.CommandFailureException)


def test_a_provider_failure_names_the_scope_it_condemns() -> None:
    assert errors.CapacityRefused("x").scope == "zone"
    assert errors.QuotaReached("x", scope="account").scope == "account"
    with pytest.raises(ValueError, match="Unknown scope"):
        errors.ProviderDown("x", scope="galaxy")


def test_command_error_says_what_ran_and_shortens_it() -> None:
    exc = errors.CommandError(3, "x" * 5000, "disk full")
    assert "return code 3" in str(exc)
    assert "disk full" in str(exc)
    assert len(str(exc)) < 400
    assert exc.command == "x" * 5000


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("SUCCEEDED", 0),
        ("FAILED", 100),
        ("FAILED_SETUP", 100),
        ("FAILED_DRIVER", 100),
        ("RUNNING", 101),
        ("PENDING", 101),
        ("CANCELLING", 101),
        (None, 102),
        ("CANCELLED", 103),
    ],
)
def test_exit_codes_follow_the_job_status(status: str | None, code: int) -> None:
    assert JobExitCode.from_job_status(status) == code


def test_not_supported_says_where_and_what_instead() -> None:
    exc = errors.not_supported("A disk tier", "local", instead="Leave it out.")
    assert str(exc) == "A disk tier is not supported yet on local. Leave it out."
