"""Google's refusals on the wire: each becomes the failure that it is, with its scope, and nothing is left behind."""

import re

import pytest
from gcp_bed import Bed

from sky.core.errors import (
    CapacityRefused,
    CredentialsRejected,
    ProviderDown,
    ProviderFailure,
    QuotaReached,
    RequestInvalid,
    Throttled,
)
from sky.providers.gcp import errors, rest

INSERT = "compute.instances.insert"


@pytest.fixture
def bed(gcp_wire, tmp_path, monkeypatch):
    # The pauses between tries are real, only shorter: what is tried how often stays the same.
    monkeypatch.setattr(rest, "_FIRST_DELAY_S", 0.02)
    made = Bed(gcp_wire, tmp_path)
    yield made
    made.sweep()


#: Method, code, status of HTTP (None: told by the operation), Google's words; the failure and its scope.
REFUSALS = [
    (INSERT, "ZONE_RESOURCE_POOL_EXHAUSTED", None, "", CapacityRefused, "zone"),
    (INSERT, "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", None, "", CapacityRefused, "zone"),
    (INSERT, "RESOURCE_POOL_EXHAUSTED", None, "", CapacityRefused, "zone"),
    (INSERT, "REGION_RESOURCE_POOL_EXHAUSTED", None, "", CapacityRefused, "region"),
    (INSERT, "VM_MIN_COUNT_NOT_REACHED", None, "", CapacityRefused, "zone"),
    (
        INSERT,
        "QUOTA_EXCEEDED",
        None,
        "Quota 'CPUS' exceeded. Limit: 8.0 in region us-central1.",
        QuotaReached,
        "region",
    ),
    (
        INSERT,
        "QUOTA_EXCEEDED",
        None,
        "Quota 'GPUS_ALL_REGIONS' exceeded. Limit: 0.0 globally.",
        QuotaReached,
        "account",
    ),
    (INSERT, "quotaExceeded", 403, "Quota 'N2_CPUS' exceeded. Limit: 8.0 in region x.", QuotaReached, "region"),
    (INSERT, "quotaExceeded", 403, "Quota 'CPUS_ALL_REGIONS' exceeded.", QuotaReached, "account"),
    (INSERT, "rateLimitExceeded", 403, "", Throttled, "account"),
    (INSERT, "userRateLimitExceeded", 429, "", Throttled, "account"),
    (INSERT, "quotaExceeded", 403, "Quota exceeded for quota metric 'Queries' per minute", Throttled, "account"),
    (
        INSERT,
        "invalid",
        400,
        "Machine type with name 'x' does not exist in zone 'us-central1-a'.",
        CapacityRefused,
        "zone",
    ),
    (INSERT, "notFound", 404, "The resource 'zones/z/acceleratorTypes/v' was not found", CapacityRefused, "zone"),
    (INSERT, "notFound", 404, "The resource 'projects/p/global/networks/n' was not found", RequestInvalid, "request"),
    (INSERT, "invalid", 400, "Invalid value for field 'resource.disks[0]'", RequestInvalid, "request"),
    (INSERT, "conditionNotMet", 412, "Constraint vmExternalIpAccess violated", RequestInvalid, "account"),
    (INSERT, "authError", 401, "Invalid Credentials", CredentialsRejected, "account"),
    (INSERT, "forbidden", 403, "Required 'compute.instances.create' permission", CredentialsRejected, "account"),
    (INSERT, "accessNotConfigured", 403, "API has not been used", CredentialsRejected, "account"),
    (INSERT, "backendError", 503, "", ProviderDown, "region"),
    (INSERT, "internalError", 500, "", ProviderDown, "zone"),
    (INSERT, "INTERNAL_ERROR", None, "", ProviderDown, "zone"),
    (INSERT, "PERMISSIONS_ERROR", None, "", CredentialsRejected, "account"),
    (INSERT, "RESOURCE_NOT_FOUND", None, "", RequestInvalid, "request"),
    (INSERT, "UNSUPPORTED_OPERATION", None, "", RequestInvalid, "request"),
    (INSERT, "IP_SPACE_EXHAUSTED", None, "", QuotaReached, "region"),
    (INSERT, "neverHeardOf", 418, "I am a teapot", RequestInvalid, "request"),
    (INSERT, "NEVER_HEARD_OF", None, "", ProviderDown, "region"),
    ("compute.images.getFromFamily", "notFound", 404, "", RequestInvalid, "account"),
    ("compute.networks.get", "notFound", 404, "", RequestInvalid, "account"),
    ("compute.firewalls.insert", "quotaExceeded", 403, "Quota 'FIREWALLS' exceeded globally", QuotaReached, "account"),
    ("compute.zoneOperations.get", "backendError", 500, "", ProviderDown, "region"),
    ("compute.instances.aggregatedList", "backendError", 502, "", ProviderDown, "region"),
]


@pytest.mark.parametrize(("method", "code", "http", "words", "kind", "scope"), REFUSALS)
async def test_a_refusal_is_told_and_leaves_nothing(bed, method, code, http, words, kind, scope):
    more = {"http": http} if http else {}
    bed.wire.fail(method, code, **more, **({"message": words} if words else {}))
    with pytest.raises(ProviderFailure) as told:
        await bed.compute.create(bed.ask("refused", 2, ports=("80",)))
    assert (type(told.value), told.value.scope) == (kind, scope)
    assert code in told.value.reason or method != INSERT
    bed.wire.heal()
    # While the place was down nothing could be removed: that is what ending the cluster is for.
    if method == "compute.zoneOperations.get":
        await bed.compute.terminate("refused")
    assert bed.left() == []


async def test_half_of_a_gang_is_none_of_it(bed):
    bed.wire.fail(INSERT, "ZONE_RESOURCE_POOL_EXHAUSTED", match={"name": "*-2"})
    with pytest.raises(CapacityRefused):
        await bed.compute.create(bed.ask("half", 4))
    assert bed.left() == []


async def test_what_passes_by_itself_is_waited_for(bed):
    bed.wire.fail(INSERT, "rateLimitExceeded", times=2, http=429)
    bed.wire.fail("compute.zoneOperations.get", "backendError", times=2, http=503)
    bed.wire.fail("compute.instances.get", "rateLimitExceeded", times=1, http=403)
    (node,) = await bed.compute.create(bed.ask("patient"))
    bed.wire.fail("compute.instances.delete", "backendError", times=2, http=500)
    bed.wire.fail("compute.instances.aggregatedList", "rateLimitExceeded", times=2, http=429)
    await bed.compute.terminate("patient")
    assert bed.left() == [] and node.machine


async def test_nodes_that_a_growing_cluster_has_survive_a_refusal(bed):
    nodes = await bed.compute.create(bed.ask("grow", 2))
    bed.wire.fail(INSERT, "ZONE_RESOURCE_POOL_EXHAUSTED", match={"name": "*-3"})
    with pytest.raises(CapacityRefused):
        await bed.compute.create(bed.ask("grow", 4, key="more", ranks=(2, 3)))
    assert [each.id for each in await bed.compute.list("grow")] == [node.id for node in nodes]
    assert [each for each in bed.left() if each.endswith("-internal")]
    bed.wire.heal()
    await bed.compute.terminate("grow")
    assert bed.left() == []


async def test_a_start_that_is_refused_leaves_all_stopped(bed):
    nodes = await bed.compute.create(bed.ask("start", 2))
    await bed.compute.stop("start")
    bed.wire.fail("compute.instances.start", "ZONE_RESOURCE_POOL_EXHAUSTED", match={"instance": nodes[1].machine})
    with pytest.raises(CapacityRefused) as told:
        await bed.compute.start("start")
    assert told.value.scope == "zone"
    assert {each.state.value for each in await bed.compute.list("start")} == {"STOPPED"}
    assert {host["state"] for host in bed.wire.hosts()} == {"stopped"}
    await bed.compute.terminate("start")
    assert bed.left() == []


async def test_a_place_that_does_not_answer_is_down(bed, unused_port):
    bed.config["endpoint"] = f"http://127.0.0.1:{unused_port}"
    with pytest.raises(ProviderDown) as told:
        await bed.compute.list()
    assert told.value.scope == "account" and str(unused_port) in told.value.reason
    access = await bed.compute.check()
    assert not access.enabled and "does not answer" in access.reason


def test_every_code_has_a_failure_with_a_scope():
    for code, (kind, scope) in errors.CODES.items():
        assert re.fullmatch("[a-z]+", code) and issubclass(kind, ProviderFailure)
        assert scope in ProviderFailure.SCOPES
        made = errors.failure(code.upper(), "words", making=True)
        assert isinstance(made, kind | RequestInvalid) and code.upper() in made.reason
    for status in range(400, 600):
        assert errors.failure("", "", status=status).reason == f"HTTP status {status}"
    assert isinstance(errors.failure("", "", status=451), RequestInvalid)
    assert isinstance(errors.failure("", "", status=599), ProviderDown)
    assert all(code in errors.CODES for code in errors.BY_RPC.values())


def test_answers_that_are_not_as_they_should_be_are_still_failures():
    for body in (None, [], {}, {"error": "text"}, {"error": {"errors": [None, 7, {"reason": 3}], "message": []}}):
        assert isinstance(errors.from_http(503, body), ProviderDown)
    assert isinstance(errors.from_http(403, {"error": {"status": "PERMISSION_DENIED"}}), CredentialsRejected)
    details = {"error": {"details": [{"reason": "SERVICE_DISABLED"}], "errors": [{"reason": "forbidden"}]}}
    assert "gcloud services enable" in errors.from_http(403, details).reason
    assert errors.from_operation({"status": "DONE"}) is None
    assert isinstance(errors.from_operation({"error": {"errors": [None]}}), ProviderDown)


def test_of_several_errors_the_telling_one_counts():
    several = [
        {"code": "INTERNAL_ERROR", "message": "failed"},
        {"code": "QUOTA_EXCEEDED", "message": "no", "errorDetails": [{"quotaInfo": {"metricName": "m", "limit": 3}}]},
    ]
    made = errors.from_operation({"error": {"errors": several}})
    assert isinstance(made, QuotaReached) and "(m limit 3 )" in made.reason


def test_a_code_for_many_things_is_told_by_its_words():
    quota = "Quota limit 'TPUV5sLitepodPerProjectPerZone' has been exceeded. Limit: 0 in zone us-west4-a."
    assert isinstance(errors.failure("RESOURCE_EXHAUSTED", quota, status=429), QuotaReached)
    assert isinstance(errors.from_rpc({"code": 8, "message": quota}), QuotaReached)
    assert isinstance(errors.from_rpc({"code": 8, "message": "There is no more capacity in the zone"}), CapacityRefused)
    assert isinstance(errors.failure("RESOURCE_EXHAUSTED", "Too many requests", status=429), Throttled)
    minute = "Quota exceeded for quota metric 'Read requests' per minute"
    assert isinstance(errors.failure("RESOURCE_EXHAUSTED", minute, status=429), Throttled)


def test_keys_and_long_words_do_not_get_into_a_reason():
    said = "Invalid value for 'metadata': '-----BEGIN OPENSSH PRIVATE KEY-----\nabcd\n'"
    reason = errors.failure("invalid", said, status=400).reason
    assert "abcd" not in reason and "(a key)" in reason
    assert len(errors.failure("invalid", "x" * 9000).reason) < 700


def test_a_throttle_says_how_long():
    failure = errors.failure("rateLimitExceeded", "", status=429, retry_after=7.0)
    assert isinstance(failure, Throttled) and failure.retry_after == 7.0
