"""What Slurm's programs say, read: shapes, jobs, refusals, reasons; without a Slurm."""

import pytest

from sky.core.errors import (
    CapacityRefused,
    CredentialsRejected,
    ProviderDown,
    QuotaReached,
    RequestInvalid,
)
from sky.core.model.clusters import InstanceState
from sky.providers.slurm.jobs import ENDS, mark, never, read_jobs, refusal, waited_too_long, why_waiting
from sky.providers.slurm.shapes import read_cluster

LOOK = """version|slurm-wlm 23.11.4
partition|PartitionName=gpu Default=YES State=UP TotalNodes=4
partition|PartitionName=old Default=NO State=DOWN TotalNodes=1
partition|PartitionName=a/b State=UP
nodes|gpu*|128|1031000|gpu:a100:4(S:0-1)|idle|3|(null)
nodes|gpu*|128|1031000|gpu:a100:4(S:0-1)|drain*|1|(null)
nodes|gpu*|64+|512000+|gpu:8|mixed|2|x,y
nodes|old|8|1000|(null)|idle|1|
nodes|gpu|many|lots|gpu:h100:8|idle|1|
nodes|gpu
nodes|$(reboot)|8|1000||idle|1|
what is this
"""


def test_shapes_of_a_cluster():
    facts = read_cluster(LOOK, 5.0, {"H100": "gpu"})
    assert (facts.version, set(facts.partitions), facts.partitions["old"].up) == (
        "slurm-wlm 23.11.4", {"gpu", "old"}, False,
    )  # fmt: skip
    shapes = {each.instance_type: each for each in facts.shapes}
    assert set(shapes) == {"128cpu-1007gb-a100x4", "64cpu-500gb-h100x8", "8cpu-1gb"}
    first = shapes["128cpu-1007gb-a100x4"]
    assert (first.gres, first.device, first.count, first.nodes, first.away) == ("a100", "A100", 4, 3, 1)
    assert shapes["64cpu-500gb-h100x8"].gres == ""
    unnamed = read_cluster(LOOK, 5.0, {})
    assert "64cpu-500gb" in {each.instance_type for each in unnamed.shapes}


def test_jobs_are_ours_by_their_comment():
    key = mark("me", "c1", "k").rpartition(":")[2]
    text = (
        f"job|7|RUNNING|None|n[1-2]|gpu|sky:me:c1:{key}\n"
        "job|8|PENDING|(Resources)||gpu|a comment|with bars\n"
        "job|x|PENDING|r||gpu|sky:me:c1:k\n"
        "job|9|NEW_STATE|r||gpu|sky:me:c2:k\n"
    )
    first, last = read_jobs(text)
    assert (first.id, first.cluster_id, first.key, first.alive) == ("7", "c1", key, True)
    assert first.instance_state is InstanceState.RUNNING
    assert (last.alive, last.instance_state) == (False, InstanceState.TERMINATED)
    assert mark("me", "c1").startswith(mark("me")) and mark("me", "c1", "k").startswith(mark("me", "c1"))


@pytest.mark.parametrize("state", sorted(ENDS))
def test_an_end_is_an_end_with_a_reason(state):
    (job,) = read_jobs(f"job|7|{state}|None|n1|gpu|sky:me:c1:k")
    assert not job.alive and ENDS[state]


@pytest.mark.parametrize(
    ("said", "kind", "scope"),
    [
        ("sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
         RequestInvalid, "region"),
        ("sbatch: error: invalid partition specified: nope", RequestInvalid, "zone"),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", RequestInvalid, "region"),
        ("Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size)",
         QuotaReached, "region"),
        ("AssocMaxSubmitJobLimit", QuotaReached, "region"),
        ("Batch job submission failed: Requested node configuration is not available", RequestInvalid, "zone"),
        ("Batch job submission failed: Invalid generic resource (gres) specification", RequestInvalid, "zone"),
        ("Batch job submission failed: Invalid feature specification", RequestInvalid, "request"),
        ("Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)",
         RequestInvalid, "request"),
        ("Batch job submission failed: User's group not permitted to use this partition", CredentialsRejected,
         "account"),
        ("squeue: error: slurm_receive_msg: Socket timed out on send/recv operation", ProviderDown, "region"),
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", ProviderDown, "region"),
        ("there are no Slurm programs in the path of this login", ProviderDown, "region"),
        ("", ProviderDown, "region"),
        ("x" * 100_000, ProviderDown, "region"),
    ],
)  # fmt: skip
def test_refusals_have_their_kind_and_scope(said, kind, scope):
    failure = refusal(said)
    assert (type(failure), failure.scope) == (kind, scope)
    assert len(failure.reason) < 600


@pytest.mark.parametrize(
    ("reason", "scope"),
    [
        ("PartitionNodeLimit", "zone"),
        ("BadConstraints", "zone"),
        ("QOSMaxGRESPerJob", "zone"),
        ("InvalidQOS", "region"),
        ("AccountNotAllowed", "region"),
        ("Resources", None),
        ("Priority", None),
        ("QOSMaxJobsPerUserLimit", None),
        ("AssocGrpGRES", None),
        ("ReqNodeNotAvail, UnavailableNodes:n1", None),
    ],
)
def test_what_no_time_will_change(reason, scope):
    failure = never(reason)
    assert (failure.scope if failure else None) == scope


def test_reasons_in_words():
    assert why_waiting("QOSMaxJobsPerUserLimit").endswith("a limit of the account or QoS is used up for now")
    assert "down or reserved" in why_waiting("ReqNodeNotAvail, UnavailableNodes:n1")
    assert why_waiting("SomethingNew") == "SomethingNew"
    assert isinstance(waited_too_long(120, "gpu", "Priority"), CapacityRefused)
