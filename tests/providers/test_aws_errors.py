"""Amazon's error codes: the table of the README is the table of the code, and words are kept without secrets."""

import re
from pathlib import Path

import pytest
from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

from sky.core import errors as tree
from sky.core.errors import (
    CapacityRefused,
    CredentialsRejected,
    InstanceNotFound,
    ProviderDown,
    ProviderFailure,
    QuotaReached,
    RequestInvalid,
    Throttled,
)
from sky.providers import aws
from sky.providers.aws.errors import TABLE, died_of, failure, meaning_of

README = (Path(aws.__file__).parent / "README.md").read_text()


def documented() -> dict[str, tuple[type[ProviderFailure], str]]:
    """The README's table: a line for each failure and scope, with its codes."""
    found = {}
    for kind, scope, codes in re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.*) \|$", README, re.MULTILINE):
        for code in re.findall(r"`([\w.]+)`", codes):
            assert code not in found, f"{code} stands twice"
            found[code] = (getattr(tree, kind), scope)
    return found


def answer(code: str, message: str = "said so", status: int = 400, headers: dict[str, str] | None = None) -> Exception:
    told = {"Error": {"Code": code, "Message": message}}
    return sdk.ClientError(
        {**told, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers or {}}}, "RunInstances"
    )


def test_the_table_is_the_one_that_people_read() -> None:
    assert documented() == {code: (meaning.kind, meaning.scope) for code, meaning in TABLE.items()}
    assert len(TABLE) > 200


def test_every_code_becomes_its_failure() -> None:
    for code, (kind, scope) in documented().items():
        for status in (400, 500):
            made = failure(answer(code, status=status), "RunInstances in us-east-1")
            assert (type(made), made.scope) == (kind, scope), code
            assert made.reason.startswith(f"{code}: said so (RunInstances in us-east-1)")
        assert (type(died_of(f"Server.{code}", "")), died_of(f"Client.{code}", "").scope) == (kind, scope)


@pytest.mark.parametrize(
    ("code", "status", "kind", "scope"),
    [
        ("InsufficientMoonCapacity", 500, CapacityRefused, "zone"),
        ("MoonLimitExceeded", 400, QuotaReached, "region"),
        ("MoonThrottled", 400, Throttled, "account"),
        ("ExpiredMoon", 400, CredentialsRejected, "account"),
        ("UnauthorizedMoon", 400, CredentialsRejected, "region"),
        ("InvalidInstanceID.Moon", 400, InstanceNotFound, "request"),
        ("InvalidMoon", 400, RequestInvalid, "request"),
        ("Moon", 400, RequestInvalid, "request"),
        ("Moon", 401, CredentialsRejected, "account"),
        ("Moon", 403, CredentialsRejected, "region"),
        ("Moon", 429, Throttled, "account"),
        ("Moon", 503, ProviderDown, "region"),
        ("Moon", None, ProviderDown, "region"),
    ],
)
def test_codes_that_nobody_knows_are_judged_by_their_form(
    code: str, status: int | None, kind: type[ProviderFailure], scope: str
) -> None:
    assert meaning_of(code, "", status) == (kind, scope)


def test_a_wrong_value_for_a_type_condemns_the_type() -> None:
    assert meaning_of("InvalidParameterValue", "Invalid value 'x9' for InstanceType.").scope == "instance_type"
    assert meaning_of("InvalidParameterValue", "Value (x) for parameter iops is invalid.").scope == "request"


def test_words_are_kept_without_what_nobody_should_read() -> None:
    blob = "Encoded authorization failure message: " + "Zk9_-" * 200
    said = (
        "You are not authorized to perform this operation. User: arn:aws:iam::123456789012:user/ann is not authorized "
        f"to perform: ec2:RunInstances with AKIAIOSFODNN7EXAMPLE. {blob} (Request ID: 0f-1e)"
    )
    reason = failure(answer("UnauthorizedOperation", said), "RunInstances in us-east-1").reason
    assert "not authorized to perform: ec2:RunInstances" in reason
    assert "Zk9" not in reason and "AKIA" not in reason and "0f-1e" not in reason
    assert "ask for the permission" in reason
    assert len(failure(answer("InternalError", "x" * 100_000), "y").reason) < 1000


def test_the_pause_that_was_asked_for() -> None:
    made = failure(answer("Throttling", headers={"retry-after": "17"}), "x")
    assert isinstance(made, Throttled) and made.retry_after == 17
    for nonsense in ("soon", "-5", "1e9"):
        other = failure(answer("Throttling", headers={"retry-after": nonsense}), "x")
        assert isinstance(other, Throttled) and 0 <= other.retry_after <= 300


@pytest.mark.parametrize(
    ("error", "kind", "scope"),
    [
        (sdk.NoCredentialsError(), CredentialsRejected, "account"),
        (sdk.PartialCredentialsError(provider="env", cred_var="x"), CredentialsRejected, "account"),
        (sdk.CredentialRetrievalError(provider="p", error_msg="e"), CredentialsRejected, "account"),
        (sdk.ProfileNotFound(profile="p"), CredentialsRejected, "account"),
        (sdk.UnauthorizedSSOTokenError(), CredentialsRejected, "account"),
        (sdk.SSOTokenLoadError(error_msg="expired"), CredentialsRejected, "account"),
        (sdk.TokenRetrievalError(provider="sso", error_msg="expired"), CredentialsRejected, "account"),
        (sdk.EndpointConnectionError(endpoint_url="http://x"), ProviderDown, "region"),
        (sdk.ConnectTimeoutError(endpoint_url="http://x"), ProviderDown, "region"),
        (sdk.ReadTimeoutError(endpoint_url="http://x"), ProviderDown, "region"),
        (sdk.ConnectionClosedError(endpoint_url="http://x"), ProviderDown, "region"),
        (sdk.SSLError(endpoint_url="http://x", error="e"), ProviderDown, "region"),
        (ResponseParserError("<html>" * 100), ProviderDown, "region"),
        (sdk.ParamValidationError(report="bad"), RequestInvalid, "request"),
        (sdk.NoRegionError(), RequestInvalid, "region"),
        (sdk.InvalidRegionError(region_name="x y"), RequestInvalid, "region"),
        (OSError("broken"), ProviderDown, "region"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_errors_of_the_client_itself(error: Exception, kind: type[ProviderFailure], scope: str) -> None:
    made = failure(error, "DescribeVpcs in us-east-1")
    assert (type(made), made.scope) == (kind, scope)
    assert "<html>" not in made.reason
    assert "DescribeVpcs in us-east-1" in made.reason


def test_what_is_typed_already_stays() -> None:
    made = RequestInvalid("x")
    assert failure(made, "y") is made
