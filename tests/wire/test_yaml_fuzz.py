"""Whatever is thrown at the reader, the user sees one of our errors, soon."""

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.fields import RESOURCES, TASK
from sky.core.model.tasks import TaskSpec
from sky.wire.task_yaml import load_config, load_dag, load_task_yaml

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
WHOLE = """
name: train-1
workdir: ~/src
num_nodes: 2
resources:
  infra: aws/us-east-1
  accelerators: {H100: 8, 'A100': 4}
  cpus: 8+
  memory: 4x
  ports: [8080, 9000-9010]
  autostop: {idle_minutes: 10, down: true}
  job_recovery: {strategy: failover, recover_on_exit_codes: [1, 2]}
  any_of: [{use_spot: true}, {disk_tier: best, labels: {a: b}}]
envs: {A: 1, B: "two"}
secrets: {T: x}
file_mounts:
  /data: s3://bucket/$A
  /out: {name: my-bucket, mode: MOUNT_CACHED, config: {mount_cached: {transfers: 4}}}
volumes: {/v: vol, /w: {size: 10GB}}
service: {readiness_probe: {path: /health, headers: {X: y}}, replicas: 2, ports: 8080}
config: {hooks: [{run: echo, events: [stop]}], kubernetes: {pod_config: {a: [1]}}}
setup: |
  pip install x
run: python train.py &anchor
"""

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=15)
    | st.sampled_from(
        ["aws", "H100:8", "4+", "16GB", "8x", "10m", "8080-8090", "s3://b/x", "/a/", "~/x", "${A}", "*/x"]
    )
)
KEYS = st.sampled_from(sorted({*TASK.fields, *RESOURCES.fields, "path", "name", "source", "mode", "run", "x"}))
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)

# Bounded by their number: how long one takes says more about what else the machine has to do.
BOUNDED = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
#: Seconds of this thread's own work for the worst text; four times what the slowest takes.
MOST_WORK_S = 20


def attempt(text: str | bytes) -> None:
    """Read a text as a task and as a dag; either it is valid or one of our errors comes out."""
    for read in (load_task_yaml, load_dag):
        try:
            spec = read(text=text, source="fuzz.yaml")
        except InvalidSkyPilotConfigError as exc:
            assert str(exc).startswith("Invalid ")
        else:
            assert type(spec).from_config(spec.to_config()) == spec


@BOUNDED
@given(st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    attempt(data)


@BOUNDED
@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%@`,? \n\t<0123=~\u00e9\ud800\x85", max_size=120))
def test_random_punctuation(text: str) -> None:
    attempt(text)


@BOUNDED
@given(st.dictionaries(KEYS, TREES, max_size=5))
def test_random_structures(config: dict[str, object]) -> None:
    attempt(yaml.safe_dump(config, allow_unicode=True))


@BOUNDED
@given(st.dictionaries(KEYS, TREES, max_size=5))
def test_random_mappings_from_python(config: dict[str, object]) -> None:
    try:
        spec = load_config(config)
    except InvalidSkyPilotConfigError as exc:
        assert str(exc).startswith("Invalid ")
    else:
        assert TaskSpec.from_config(spec.to_config()) == spec


@BOUNDED
@given(
    st.fixed_dictionaries({"resources": st.dictionaries(st.sampled_from(sorted(RESOURCES.fields)), TREES, max_size=5)})
)
def test_random_resources(config: dict[str, object]) -> None:
    attempt(yaml.safe_dump(config, allow_unicode=True))


@BOUNDED
@given(st.integers(0, len(WHOLE)), st.integers(0, 12), st.text(alphabet=":-[]{}&*!|>'\"# \n\tx1", max_size=5))
def test_mutations_of_a_valid_file(start: int, length: int, inserted: str) -> None:
    attempt(WHOLE[:start] + inserted + WHOLE[start + length :])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_cut_anywhere(path: Path) -> None:
    text = path.read_bytes()
    for end in range(0, len(text), 7):
        attempt(text[:end])


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        "{a: " * 100_000,
        "- " * 200_000,
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20)),
        "a: &a {b: *a}",
        "a: &a [*a]",
        "? [a, b]\n: c",
        "a: !!python/object/apply:os.system [echo]",
        "a: !!binary aGVsbG8=",
        "run: !secret x",
        "k" * 1_000_000,
        "'" * 500_000,
        "a: " + "1" * 100_000,
        "\n".join(f"k{i}: {i}" for i in range(60_000)),
        "a: 0b\nb: 0x\nc: .inf\nd: -.inf\ne: .nan\nf: 1_000\ng: 09",
        "%YAML 9.9\n---\na: b",
        "---\n---\n---\n",
        "name: x\n---\nname: y\n...\n garbage",
        "resources: {any_of: [" + "{cpus: 1}," * 5000 + "]}",
        "resources: {accelerators: [" + "H100," * 5000 + "]}",
        "envs: {" + ",".join(f"k{i}: ~" for i in range(40_000)) + "}",
        "file_mounts: {" + ",".join(f"k{i}/: x" for i in range(40_000)) + "}",
        "run: echo\n<<: [1, 2]",
        "<<: {run: echo}",
    ],
    ids=range(24),
)
def test_mischief_is_refused_soon(text: str) -> None:
    began = time.thread_time()
    attempt(text)
    assert time.thread_time() - began < MOST_WORK_S
