"""What Google's refusals mean: one table from its codes to typed failures, each with the scope that it condemns.

Google tells a refusal in three ways: by the answer to a request (a reason in camel case), by the operation that a
request began (a code in capitals), and, for TPUs, by a number of gRPC. `rest` and `tpu` ask here. What the table does
not know is judged by the status of HTTP, see `BY_STATUS`.
"""

import re
from collections.abc import Iterator, Mapping

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


class AlreadyThere(RequestInvalid):
    """Something of this name exists; the caller looks whether it is what was wanted."""


class StillBusy(ProviderDown):
    """The resource is in use or changing just now; asking again may help."""


Kind = type[ProviderFailure]

#: Codes without case and underscores, so that one line serves both of Google's ways to write them.
CODES: Mapping[str, tuple[Kind, str]] = {
    # No machines of this kind in this place.
    "zoneresourcepoolexhausted": (CapacityRefused, "zone"),
    "zoneresourcepoolexhaustedwithdetails": (CapacityRefused, "zone"),
    "resourcepoolexhausted": (CapacityRefused, "zone"),
    "resourcepoolexhaustedwithdetails": (CapacityRefused, "zone"),
    "regionresourcepoolexhausted": (CapacityRefused, "region"),
    "stockout": (CapacityRefused, "zone"),
    "vmmincountnotreached": (CapacityRefused, "zone"),
    "unsupportedmachinetype": (CapacityRefused, "zone"),
    "insufficientcapacity": (CapacityRefused, "zone"),
    "reservationcapacityexceeded": (CapacityRefused, "zone"),
    "specifiedreservationnotfound": (RequestInvalid, "zone"),
    "unsupportedreservation": (RequestInvalid, "zone"),
    "placementpolicyunsupported": (RequestInvalid, "instance_type"),
    # Quotas; the scope is read off the words, see `_quota_scope`.
    "quotaexceeded": (QuotaReached, "region"),
    "limitexceeded": (QuotaReached, "region"),
    "resourcecountlimitexceeded": (QuotaReached, "region"),
    "quotalimitexceeded": (QuotaReached, "region"),
    "dailylimitexceeded": (QuotaReached, "account"),
    "dailylimitexceededunreg": (QuotaReached, "account"),
    # Too many calls.
    "ratelimitexceeded": (Throttled, "account"),
    "userratelimitexceeded": (Throttled, "account"),
    "concurrentlimitexceeded": (Throttled, "account"),
    "concurrentoperationsquotaexceeded": (Throttled, "account"),
    "operationratelimitexceeded": (Throttled, "account"),
    "resourceexhausted": (Throttled, "account"),
    "variabletermlimitexceeded": (Throttled, "account"),
    # Who asks, and what that account may do.
    "autherror": (CredentialsRejected, "account"),
    "invalidcredentials": (CredentialsRejected, "account"),
    "expired": (CredentialsRejected, "account"),
    "required": (CredentialsRejected, "account"),
    "unauthenticated": (CredentialsRejected, "account"),
    "accesstokenexpired": (CredentialsRejected, "account"),
    "accesstokenscopeinsufficient": (CredentialsRejected, "account"),
    "accountstateinvalid": (CredentialsRejected, "account"),
    "forbidden": (CredentialsRejected, "account"),
    "permissiondenied": (CredentialsRejected, "account"),
    "iampermissiondenied": (CredentialsRejected, "account"),
    "insufficientpermissions": (CredentialsRejected, "account"),
    "permissionserror": (CredentialsRejected, "account"),
    "accessnotconfigured": (CredentialsRejected, "account"),
    "servicedisabled": (CredentialsRejected, "account"),
    "billingdisabled": (CredentialsRejected, "account"),
    "billingnotenabled": (CredentialsRejected, "account"),
    "ureqprojectbillingnotfound": (CredentialsRejected, "account"),
    "accountdisabled": (CredentialsRejected, "account"),
    "consumersuspended": (CredentialsRejected, "account"),
    "inactivebillingstate": (CredentialsRejected, "account"),
    "projectnotfound": (CredentialsRejected, "account"),
    "consumerinvalid": (CredentialsRejected, "account"),
    "vpcservicecontrols": (CredentialsRejected, "account"),
    "securitypolicyviolated": (CredentialsRejected, "account"),
    # What can never work as it was asked for.
    "invalid": (RequestInvalid, "request"),
    "invalidargument": (RequestInvalid, "request"),
    "invalidparameter": (RequestInvalid, "request"),
    "invalidvalue": (RequestInvalid, "request"),
    "invalidusage": (RequestInvalid, "request"),
    "invalidfieldvalue": (RequestInvalid, "request"),
    "badrequest": (RequestInvalid, "request"),
    "parseerror": (RequestInvalid, "request"),
    "failedprecondition": (RequestInvalid, "request"),
    "outofrange": (RequestInvalid, "request"),
    "unsupportedoperation": (RequestInvalid, "request"),
    "notimplemented": (RequestInvalid, "request"),
    "methodnotallowed": (RequestInvalid, "request"),
    "resourcenotfound": (RequestInvalid, "request"),
    "conditionnotmet": (RequestInvalid, "account"),
    "organizationpolicyviolation": (RequestInvalid, "account"),
    "ipspaceexhausted": (QuotaReached, "region"),
    "ipspaceexhaustedwithdetails": (QuotaReached, "region"),
    "diskimageincompatible": (RequestInvalid, "instance_type"),
    "imagenotfound": (RequestInvalid, "account"),
    "uploadtoolarge": (RequestInvalid, "request"),
    # What is there, or is not.
    "notfound": (InstanceNotFound, "request"),
    "deleted": (InstanceNotFound, "request"),
    "alreadyexists": (AlreadyThere, "request"),
    "resourcealreadyexists": (AlreadyThere, "request"),
    "duplicate": (AlreadyThere, "request"),
    "resourceinusebyanotherresource": (StillBusy, "zone"),
    "resourceinuse": (StillBusy, "zone"),
    "resourcenotready": (StillBusy, "zone"),
    "resourceoperationratelimitexceeded": (StillBusy, "zone"),
    "operationinprogress": (StillBusy, "zone"),
    "fingerprintmismatch": (StillBusy, "zone"),
    "aborted": (StillBusy, "zone"),
    # Google itself.
    "internalerror": (ProviderDown, "zone"),
    "internal": (ProviderDown, "zone"),
    "instanceinternalerror": (ProviderDown, "zone"),
    "backenderror": (ProviderDown, "region"),
    "servererror": (ProviderDown, "region"),
    "servererrorretry": (ProviderDown, "region"),
    "transienterror": (ProviderDown, "region"),
    "serviceunavailable": (ProviderDown, "region"),
    "unavailable": (ProviderDown, "region"),
    "deadlineexceeded": (ProviderDown, "region"),
    "operationcanceled": (ProviderDown, "zone"),
    "operationcanceledbyuser": (ProviderDown, "zone"),
    "cancelled": (ProviderDown, "zone"),
    "unknown": (ProviderDown, "zone"),
    "dataloss": (ProviderDown, "zone"),
}

#: For codes that nobody has told us of; others below 500 are requests that cannot work, all above are Google's.
BY_STATUS: Mapping[int, tuple[Kind, str]] = {
    400: (RequestInvalid, "request"),
    401: (CredentialsRejected, "account"),
    402: (CredentialsRejected, "account"),
    403: (CredentialsRejected, "account"),
    404: (InstanceNotFound, "request"),
    408: (ProviderDown, "region"),
    409: (StillBusy, "zone"),
    410: (InstanceNotFound, "request"),
    412: (RequestInvalid, "account"),
    429: (Throttled, "account"),
}

#: Numbers of google.rpc.Code, which TPUs answer with.
BY_RPC: Mapping[int, str] = {
    1: "cancelled",
    2: "unknown",
    3: "invalidargument",
    4: "deadlineexceeded",
    5: "notfound",
    6: "alreadyexists",
    7: "permissiondenied",
    8: "stockout",  # of a TPU's creation; too many calls are told by HTTP 429 instead
    9: "failedprecondition",
    10: "aborted",
    11: "outofrange",
    12: "notimplemented",
    13: "internal",
    14: "unavailable",
    15: "dataloss",
    16: "unauthenticated",
}

#: Codes that Google gives to many things; the words say which.
_VAGUE = frozenset(
    [
        "invalid",
        "badrequest",
        "notfound",
        "resourcenotfound",
        "failedprecondition",
        "invalidargument",
        "resourceexhausted",
        "stockout",
    ]
)
_NOT_SOLD_HERE = re.compile(
    r"machine type .{0,200}?(?:does not exist|not available|not supported)"
    r"|(?:machineTypes|acceleratorTypes)/[^' ]+'? was not found"
    r"|accelerator.{0,200}?(?:does not exist|not found|not available|not supported) in zone"
    r"|(?:machine|accelerator) type .{0,200}? in zone",
    re.IGNORECASE | re.DOTALL,
)
_STOCK_OUT = re.compile(r"no more capacity|not enough resources|resource.pool.exhausted|stockout", re.IGNORECASE)
_QUOTA = re.compile(r"quota.{0,200}?exceeded|exceeded.{0,80}?quota", re.IGNORECASE | re.DOTALL)
_GLOBAL = re.compile(r"ALL_REGIONS|\bglobal(?:ly)?\b", re.IGNORECASE)
_TOO_MANY_CALLS = re.compile(r"per (?:minute|second|day)|rate limit|queries per|requests per", re.IGNORECASE)
_KEY = re.compile(r"-----BEGIN.*", re.DOTALL)
_SHOWN = 600


def from_http(status: int, body: object, *, retry_after: float | None = None, making: bool = False) -> ProviderFailure:
    """The failure that an answer tells. `making`: something was to be made, so that what is missing is a part of it."""
    error = _mapping(_mapping(body).get("error"))
    reasons = list(_reasons(error))
    words = _text(error.get("message")) or next((text for _, text in reasons if text), "") or f"HTTP status {status}"
    code = next((code for code, _ in reasons if _folded(code) in CODES), reasons[0][0] if reasons else "")
    return failure(code, words, status=status, retry_after=retry_after, making=making)


def from_operation(operation: Mapping[str, object]) -> ProviderFailure | None:
    """The failure that an operation ended with, if it did; the first that says more than that others failed."""
    errors = _mapping(operation.get("error")).get("errors")
    status = operation.get("httpErrorStatusCode")
    number = status if isinstance(status, int) else 500
    found = [_mapping(each) for each in errors] if isinstance(errors, list) else []
    if not found:
        words = _text(operation.get("httpErrorMessage"))
        return failure("", words, status=number) if words and number >= 400 else None
    told = [failure(_text(each.get("code")), _words(each), status=number, making=True) for each in found]
    return max(told, key=_weight)


def from_rpc(status: Mapping[str, object]) -> ProviderFailure:
    """The failure of an operation on a TPU, a google.rpc.Status."""
    number = status.get("code")
    code = BY_RPC.get(number, "") if isinstance(number, int) else ""
    return failure(code, _text(status.get("message")), making=True)


def failure(
    code: str, words: str, *, status: int = 500, retry_after: float | None = None, making: bool = False
) -> ProviderFailure:
    """The failure of a code with Google's words for it; `status` is what counts where the code is not known."""
    folded = _folded(code)
    kind, scope = CODES.get(folded) or BY_STATUS.get(status) or _unknown(status)
    shown = clean(words)
    reason = f"{code}: {shown}" if code and shown else code or shown or f"HTTP status {status}"
    if folded in _VAGUE or (folded not in CODES and status < 500):
        kind, scope = _by_words(words, kind, scope)
    if kind is QuotaReached:
        if _TOO_MANY_CALLS.search(words):
            kind, scope = Throttled, "account"
        elif _GLOBAL.search(words):
            scope = "account"
    if kind is InstanceNotFound and making:
        kind = RequestInvalid
    if kind is Throttled:
        return Throttled(reason, retry_after=1.0 if retry_after is None else retry_after, scope=scope)
    if folded in ("accessnotconfigured", "servicedisabled"):
        reason += "; enable the API: gcloud services enable compute.googleapis.com"
    return kind(reason, scope=scope)


def clean(words: str) -> str:
    """Google's words on one line, bounded, without any key: an answer may repeat what it was sent."""
    text = " ".join(_KEY.sub("(a key)", words).split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _by_words(words: str, kind: Kind, scope: str) -> tuple[Kind, str]:
    if _NOT_SOLD_HERE.search(words) or _STOCK_OUT.search(words):
        return CapacityRefused, "zone"
    if _QUOTA.search(words):
        return QuotaReached, "region"
    return kind, scope


def _unknown(status: int) -> tuple[Kind, str]:
    return (RequestInvalid, "request") if status < 500 else (ProviderDown, "region")


def _weight(found: ProviderFailure) -> int:
    """Of several errors the one that decides: a quota or a stock-out says more than an internal error beside it."""
    order = (ProviderDown, RequestInvalid, Throttled, CapacityRefused, QuotaReached, CredentialsRejected)
    return next((place for place, kind in enumerate(order) if isinstance(found, kind)), -1)


def _reasons(error: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Codes with their words, the most telling first: details, then the list, then the status."""
    for key in ("details", "errors"):
        listed = error.get(key)
        for each in listed if isinstance(listed, list) else ():
            part = _mapping(each)
            if reason := _text(part.get("reason")):
                yield reason, _text(part.get("message"))
    if status := _text(error.get("status")):
        yield status, ""


def _words(error: Mapping[str, object]) -> str:
    """The message of an operation's error with what its details add, where a stock-out says what else is there."""
    words = [_text(error.get("message"))]
    details = error.get("errorDetails")
    for each in details if isinstance(details, list) else ():
        quota = _mapping(_mapping(each).get("quotaInfo"))
        if quota:
            words.append(
                f"({_text(quota.get('metricName'))} limit {quota.get('limit')} {_text(quota.get('limitName'))})"
            )
    return " ".join(word for word in words if word)


def _folded(code: str) -> str:
    return code.replace("_", "").replace("-", "").lower()


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
