"""What Amazon's error codes mean: one table, from each code to the typed failure and how much it condemns.

Asked by `clients.py` for every call that fails, and for the reason that a machine died of. A code that is not in the
table is judged by its form, and then by its HTTP status. The README of this folder shows the table to people.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from botocore import exceptions as sdk  # type: ignore[import-untyped]
from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]

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


class Meaning(NamedTuple):
    """The failure that a code stands for, and its scope."""

    kind: type[ProviderFailure]
    scope: str


_DOWN, _INVALID = Meaning(ProviderDown, "region"), Meaning(RequestInvalid, "request")
_ZONE, _QUOTA = Meaning(CapacityRefused, "zone"), Meaning(QuotaReached, "region")
_MARKET, _THROTTLED = Meaning(QuotaReached, "capacity_type"), Meaning(Throttled, "account")
_REJECTED, _DENIED = Meaning(CredentialsRejected, "account"), Meaning(CredentialsRejected, "region")
_TYPE, _REGION = Meaning(RequestInvalid, "instance_type"), Meaning(RequestInvalid, "region")
_GONE = Meaning(InstanceNotFound, "request")

#: Why, beside what the code's name says: `capacity_type` is the market (spot or not) of a region; a quota of vCPUs is
#: one of those. What this user may not do is often allowed in another region, so a denial condemns the region alone.
_CODES: tuple[tuple[Meaning, str], ...] = (
    (
        _ZONE,
        "InsufficientInstanceCapacity InsufficientHostCapacity InsufficientCapacity InsufficientCapacityOnHost "
        "InsufficientReservedInstanceCapacity InsufficientVolumeCapacity InsufficientFreeAddressesInSubnet "
        "InsufficientAddressCapacity ReservationCapacityExceeded ReservedInstancesUnavailable Unsupported "
        "UnfulfillableCapacity UnavailableHostRequirements HostUnavailable VolumeTypeNotAvailableInZone "
        "InvalidVolume.ZoneMismatch ZonesMismatched InvalidCapacityReservationState "
        "SpotInstanceTermination SpotInstanceShutdown",
    ),
    (Meaning(CapacityRefused, "capacity_type"), "SpotMaxPriceTooLow"),
    (_MARKET, "VcpuLimitExceeded InstanceLimitExceeded MaxSpotInstanceCountExceeded TargetCapacityLimitExceeded"),
    (
        _QUOTA,
        "AddressLimitExceeded AttachmentLimitExceeded FilterLimitExceeded HostLimitExceeded "
        "InternetGatewayLimitExceeded InvalidInterface.IpAddressLimitExceeded LimitExceeded LimitExceededException "
        "MaxConfigLimitExceeded MaxIOPSLimitExceeded MaxScheduledInstanceCapacityExceeded "
        "MaxSpotFleetRequestCountExceeded NetworkInterfaceLimitExceeded PendingSnapshotLimitExceeded "
        "PlacementGroupLimitExceeded PrivateIpAddressLimitExceeded RequestResourceCountExceeded "
        "ReservedInstancesCountExceeded ReservedInstancesLimitExceeded ResourceCountExceeded "
        "ResourceCountLimitExceeded ResourceLimitExceeded RulesPerSecurityGroupLimitExceeded "
        "SecurityGroupLimitExceeded SecurityGroupsPerInstanceLimitExceeded SecurityGroupsPerInterfaceLimitExceeded "
        "ServiceQuotaExceededException SnapshotLimitExceeded SubnetLimitExceeded VolumeIOPSLimit "
        "VolumeLimitExceeded VolumeSizeLimitExceeded VpcLimitExceeded AMIQuotaExceeded KeyPairLimitExceeded",
    ),
    (
        _THROTTLED,
        "RequestLimitExceeded Throttling ThrottlingException ThrottledException RequestThrottled "
        "RequestThrottledException TooManyRequestsException RateExceeded PriorRequestNotComplete SlowDown "
        "BandwidthLimitExceeded ConcurrentTagAccess CreditSpecificationUpdateInProgress EC2ThrottledException",
    ),
    (
        _REJECTED,
        "AuthFailure Blocked ExpiredToken ExpiredTokenException IncompleteSignature InvalidAccessKeyId "
        "InvalidClientTokenId InvalidSecurity.RequestHasExpired InvalidUserID.Malformed MissingAuthenticationToken "
        "PendingVerification RequestExpired RequestTimeTooSkewed SignatureDoesNotMatch UnrecognizedClientException "
        "AccountProblem InvalidIdentityToken IDPRejectedClaim IDPCommunicationError",
    ),
    (
        _DENIED,
        "UnauthorizedOperation AccessDenied AccessDeniedException NotAuthorized OperationNotPermitted "
        "OptInRequired RegionDisabledException TagPolicyViolation",
    ),
    (
        _TYPE,
        "InvalidInstanceType InvalidInstanceFamily UnsupportedInstanceAttribute UnsupportedInstanceTypeOnHost "
        "InstanceCreditSpecification.NotSupported EncryptedVolumesNotSupported NonEBSInstance "
        "UnsupportedHibernationConfiguration UnsupportedTenancy",
    ),
    (
        _REGION,
        "InvalidRegion InvalidZone.NotFound InvalidAvailabilityZone InvalidAMIID.NotFound InvalidAMIID.Unavailable "
        "InvalidVpcID.NotFound InvalidSubnetID.NotFound InvalidSubnet VPCIdNotSpecified DefaultVpcDoesNotExist "
        "VPCResourceNotSpecified InvalidCapacityReservationId.NotFound",
    ),
    (
        _INVALID,
        "BundlingInProgress CannotDelete DependencyViolation DryRunOperation DuplicateSubnetsInSameZone "
        "IdempotentParameterMismatch IncorrectInstanceState IncorrectState IncorrectStateException "
        "InstanceAlreadyLinked InvalidAction InvalidAddress.Malformed InvalidAddress.NotFound InvalidAffinity "
        "InvalidAllocationID.NotFound InvalidAMIAttributeItemValue InvalidAMIID.Malformed InvalidAMIName.Duplicate "
        "InvalidAMIName.Malformed InvalidArgument InvalidAttachment.NotFound InvalidAutoPlacement "
        "InvalidBlockDeviceMapping InvalidCapacityReservationId.Malformed InvalidCharacter InvalidFilter "
        "InvalidGroup.Duplicate InvalidGroup.InUse InvalidGroup.NotFound InvalidGroup.Reserved "
        "InvalidGroupId.Malformed InvalidHostConfiguration InvalidHostID.Malformed InvalidHostID.NotFound InvalidID "
        "InvalidInput InvalidInstanceAttributeValue InvalidInstanceCreditSpecification InvalidInstanceState "
        "InvalidIPAddress.InUse InvalidKernelId.Malformed InvalidKey.Format InvalidKeyPair.Duplicate "
        "InvalidKeyPair.Format InvalidKeyPair.NotFound InvalidNetworkInterface.InUse "
        "InvalidNetworkInterface.NotFound InvalidNetworkInterfaceID.NotFound InvalidNetworkInterfaceId.Malformed "
        "InvalidNextToken InvalidOption.Conflict InvalidPaginationToken InvalidParameter "
        "InvalidParameterCombination InvalidParameterDependency InvalidParameterValue InvalidPermission.Duplicate "
        "InvalidPermission.Malformed InvalidPermission.NotFound InvalidPlacementGroup.Duplicate "
        "InvalidPlacementGroup.InUse InvalidPlacementGroup.Unknown InvalidPlacementGroupId.Malformed "
        "InvalidQueryParameter InvalidRamdiskId.Malformed InvalidRequest InvalidReservationID.Malformed "
        "InvalidReservationID.NotFound InvalidSecurityGroupID.NotFound InvalidSecurityGroupId.Malformed "
        "InvalidServiceName InvalidSnapshot.InUse InvalidSnapshot.NotFound InvalidSnapshotID.Malformed "
        "InvalidSpotInstanceRequestID.Malformed InvalidSpotInstanceRequestID.NotFound InvalidState "
        "InvalidStateTransition InvalidSubnet.Conflict InvalidSubnetId.Malformed InvalidTagKey.Malformed "
        "InvalidTenancy InvalidTime InvalidUserData.Malformed InvalidVolume.NotFound InvalidVolumeID.Duplicate "
        "InvalidVolumeID.Malformed InvalidVpcId.Malformed LegacySecurityGroup MalformedQueryString MissingAction "
        "MissingParameter NetworkInterfaceNotFoundException NoSuchResourceException NoSuchVersion NotExportable "
        "NotSupported ParameterNotFound Resource.AlreadyAssigned Resource.AlreadyAssociated "
        "SnapshotCreationPerVolumeRateExceeded TagLimitExceeded UnknownParameter UnknownVolumeType "
        "UnsupportedException UnsupportedHostConfiguration UnsupportedOperation UnsupportedProtocol ValidationError "
        "ValidationException VolumeInUse InvalidSnapshot InvalidUserData UserInitiatedShutdown "
        "InstanceInitiatedShutdown InvalidSnapshotId UserInitiatedHibernate",
    ),
    (
        _GONE,
        "InvalidInstanceID InvalidInstanceID.Malformed InvalidInstanceID.NotFound InvalidInstanceID.NotLinkable",
    ),
    (
        _DOWN,
        "InternalError InternalFailure InternalServerError InternalServiceException RetryableError ServerInternal "
        "ServiceException ServiceUnavailable ServiceUnavailableException Unavailable ScheduledStop",
    ),
)

TABLE: Mapping[str, Meaning] = {code: meaning for meaning, codes in _CODES for code in codes.split()}

#: Codes that the table lacks, by their form; the first that matches holds.
FORMS: tuple[tuple[str, Meaning], ...] = (
    (r"Insufficient.*", _ZONE),
    (r".*(Throttl|RateExceed|TooManyRequests).*", _THROTTLED),
    (r".*(LimitExceeded|CountExceeded|QuotaExceeded).*", _QUOTA),
    (r"(Expired|Unrecognized|Signature|Auth).*", _REJECTED),
    (r"(Unauthorized|AccessDenied|NotAuthorized).*", _DENIED),
    (r"InvalidInstanceID.*", _GONE),
    (r"(Internal|Server|Unavailable).*", _DOWN),
    (r"(Invalid|Malformed|Missing|Unsupported|Unknown|Incorrect).*", _INVALID),
)

#: All that the SDK raises when it asks.
ASKING: tuple[type[Exception], ...] = (sdk.BotoCoreError, sdk.ClientError, ResponseParserError, OSError)

#: An invalid value of these parameters would be as wrong in any other place that has the type.
_ABOUT_TYPE = re.compile(
    r"instance ?type|architecture .* does not match|requires? .*(enclave|uefi|nitro)", re.IGNORECASE
)
_SECRETS = re.compile(
    r"Encoded authorization failure message: *\S+|\b(AKIA|ASIA)[A-Z0-9]{8,}\b|\(?Request ?ID: *[\w-]+\)?", re.IGNORECASE
)
#: Characters of Amazon's words that a message repeats.
_WORDS = 500
#: Seconds until it is worth asking again, where Amazon does not say.
_PAUSE_S = 5.0

_ADVICE: Mapping[type[ProviderFailure], str] = {
    CredentialsRejected: "see what `aws sts get-caller-identity` says, and log in again or ask for the permission",
    QuotaReached: "ask for more under Service Quotas in the AWS console, or end what is not needed",
}


def meaning_of(code: str, message: str = "", status: int | None = None) -> Meaning:
    """What a code stands for. `Server.` and `Client.` before it, as reasons of machines have, make no difference."""
    plain = re.sub(r"^(Server|Client)\.", "", code)
    if plain == "InvalidParameterValue" and _ABOUT_TYPE.search(message):
        return _TYPE
    if plain in TABLE:
        return TABLE[plain]
    for form, meaning in FORMS:
        if re.fullmatch(form, plain):
            return meaning
    if status is None or status >= 500:
        return _DOWN
    return {401: _REJECTED, 403: _DENIED, 429: _THROTTLED}.get(status, _INVALID)


def failure(error: Exception, doing: str) -> ProviderFailure:
    """The typed failure of a call that raised `error`; `doing` names the call and its place."""
    if isinstance(error, ProviderFailure):
        return error
    if isinstance(error, sdk.ClientError):
        return _answered(error, doing)
    return _unanswered(error, doing)


def died_of(code: str, message: str) -> ProviderFailure:
    """The failure of a machine that ended while it was being made, by the reason that EC2 gives for it."""
    meaning = meaning_of(code, message)
    return meaning.kind(f"{words(message or code)} ({code})", scope=meaning.scope)


def code_of(error: Exception) -> str:
    """Amazon's code of an error, empty if it has none."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, sdk.ClientError) else ""


def code_behind(failed: ProviderFailure) -> str:
    """Amazon's code of what became a typed failure."""
    return code_of(failed.__cause__) if isinstance(failed.__cause__, Exception) else ""


def is_missing(failed: ProviderFailure) -> bool:
    """Whether there was no login to ask with, rather than one that was refused."""
    return isinstance(failed.__cause__, sdk.NoCredentialsError)


def words(message: str) -> str:
    """Amazon's words on one line, without what nobody can read and what nobody should."""
    return " ".join(_SECRETS.sub("", message).split())[:_WORDS]


def _answered(error: sdk.ClientError, doing: str) -> ProviderFailure:
    told = error.response.get("Error", {})
    code, message = str(told.get("Code", "Unknown")), str(told.get("Message", ""))
    answer = error.response.get("ResponseMetadata", {})
    meaning = meaning_of(code, message, answer.get("HTTPStatusCode"))
    advice = _ADVICE.get(meaning.kind)
    reason = f"{code}: {words(message) or 'no more was said'} ({doing})" + (f"; {advice}" if advice else "")
    if meaning.kind is Throttled:
        return Throttled(reason, retry_after=_pause(answer.get("HTTPHeaders", {})), scope=meaning.scope)
    return meaning.kind(reason, scope=meaning.scope)


def _pause(headers: Mapping[str, str]) -> float:
    try:
        return min(300.0, max(0.0, float(headers.get("retry-after", _PAUSE_S))))
    except ValueError:
        return _PAUSE_S


#: Errors of the SDK before or instead of an answer.
_NO_LOGIN = (
    sdk.NoCredentialsError,
    sdk.PartialCredentialsError,
    sdk.CredentialRetrievalError,
    sdk.ProfileNotFound,
    sdk.SSOError,
    sdk.TokenRetrievalError,
    sdk.RefreshWithMFAUnsupportedError,
    sdk.ConfigParseError,
    sdk.ConfigNotFound,
    sdk.InvalidConfigError,
    sdk.InfiniteLoopConfigError,
    sdk.UnknownCredentialError,
)
_ILL_FORMED = (sdk.ParamValidationError, sdk.ValidationError, sdk.UnknownServiceError, sdk.DataNotFoundError)
_NO_SUCH_PLACE = (sdk.NoRegionError, sdk.InvalidRegionError, sdk.UnknownRegionError, sdk.UnknownEndpointError)


def _unanswered(error: Exception, doing: str) -> ProviderFailure:
    said = words(str(error)) or type(error).__name__
    if isinstance(error, _NO_LOGIN):
        return CredentialsRejected(f"{said} ({doing}); {_ADVICE[CredentialsRejected]}")
    if isinstance(error, _NO_SUCH_PLACE):
        return RequestInvalid(f"{said} ({doing})", scope="region")
    if isinstance(error, _ILL_FORMED):
        return RequestInvalid(f"{said} ({doing})")
    if isinstance(error, ResponseParserError):
        # The parser repeats the whole page that it could not read.
        return ProviderDown(f"AWS answered with something that is no answer ({doing})")
    return ProviderDown(f"AWS could not be asked: {said} ({doing})")
