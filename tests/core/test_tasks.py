"""``TaskSpec``: its canonical mapping is JSON-safe and the exact inverse of reading it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.dags import DagSpec, read_header
from sky.core.model.schema import Problems
from sky.core.model.tasks import TaskSpec, substitute

words = st.text("abcXYZ019", min_size=1, max_size=6)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
envs = st.dictionaries(st.sampled_from(["A", "B", "_C", "SKYPILOT_X"]), texts, max_size=3)

RESOURCES = st.sampled_from(
    [
        {},
        {"infra": "local", "cpus": 2},
        {"accelerators": ["H100", "A100:2"]},
        {"accelerators": {"H100": 1, "A100": 2}, "use_spot": True},
        {"any_of": [{"infra": "aws"}, {"infra": "gcp"}], "ports": 80},
        {"ordered": [{"infra": "aws"}, {}]},
        {"ordered": [{"infra": "aws"}]},
    ]
)
STORAGE = st.sampled_from(
    [
        "~/data",
        "s3://bucket/x",
        "https://example.com/file",
        {"name": "my-bucket"},
        {"source": "gs://b", "mode": "copy"},
        {"name": "my-bucket", "source": ["a/x", "b/y"], "store": "s3", "persistent": False},
        {"source": "s3://b", "type": "MODEL_CHECKPOINT_RO", "config": {"mount_cached": {"transfers": 4}}},
    ]
)
VOLUMES = st.sampled_from(
    [
        "vol",
        {"name": "v", "sub_path": "x"},
        {"size": "1TB", "type": "k8s-pvc", "labels": {"a": "b"}},
        {"host_path": "/scratch"},
    ]
)
SERVICES = st.sampled_from(
    [
        {"service": {"readiness_probe": "/health", "replicas": 2}},
        {
            "service": {
                "readiness_probe": {"path": "/", "post_data": '{"a": 1}', "timeout_seconds": 3, "headers": {"X": "y"}},
                "replica_policy": {"min_replicas": 0, "max_replicas": 3, "target_qps_per_replica": 2.5},
                "ports": "8080",
                "tls": {"keyfile": "k", "certfile": "c"},
                "load_balancer": {"stream_timeout_seconds": 5},
            }
        },
        {
            "service": {
                "readiness_probe": "/",
                "load_balancing_policy": "instance_aware_least_load",
                "replica_policy": {"min_replicas": 1, "max_replicas": 3, "target_qps_per_replica": {"H100:1": 2}},
            }
        },
        {"pool": {"workers": 3}},
        {"pool": {"min_workers": 1, "max_workers": 5, "queue_length_threshold": 4}},
        {},
    ]
)
TASKS = st.builds(
    lambda parts, service: {**parts, **service},
    st.fixed_dictionaries(
        {},
        optional={
            "name": words,
            "run": texts,
            "setup": texts,
            "num_nodes": st.integers(1, 9),
            "envs": envs,
            "secrets": envs | st.just(["secrets:A"]),
            "managed_secrets": st.just(["personal.X", {"global.Y": {"mount_path": "/y"}}]),
            "resources": RESOURCES,
            "workdir": st.sampled_from(
                [".", "~/x", {"url": "https://h/r.git"}, {"url": "https://h/r.git", "ref": "v1"}]
            ),
            "file_mounts": st.dictionaries(st.sampled_from(["/a", "~/b", "c/d"]), STORAGE, max_size=3),
            "volumes": st.dictionaries(st.sampled_from(["/v", "~/w"]), VOLUMES, max_size=2),
            "config": st.just(
                {"hooks": [{"run": "x", "events": ["stop"], "timeout": 5}], "docker": {"run_options": ["-v"]}}
            ),
            "inputs": st.just({"s3://in": 5}),
            "outputs": st.just({"s3://out": 0.5}),
            "event_callback": texts,
            "api_server_access": st.booleans(),
            "_metadata": st.just({"a": [1, {"b": None}]}),
        },
    ),
    SERVICES,
)


@given(TASKS)
def test_the_canonical_mapping_is_the_inverse_of_reading_it(config: dict[str, object]) -> None:
    spec = TaskSpec.from_config(config)
    canonical = json.loads(json.dumps(spec.to_config()))
    assert TaskSpec.from_config(canonical) == spec
    assert TaskSpec.from_config(canonical).to_config() == spec.to_config()


@given(st.lists(TASKS, min_size=1, max_size=3), words | st.none())
def test_so_it_is_for_dags(configs: list[dict[str, object]], name: str | None) -> None:
    problems = Problems()
    dag = read_header({"name": name}, [TaskSpec.from_config(config) for config in configs], problems)
    problems.raise_if_any()
    assert DagSpec.from_config(json.loads(json.dumps(dag.to_config()))) == dag


def test_reading_back_fills_no_variables() -> None:
    spec = TaskSpec.from_config({"envs": {"A": "x"}, "file_mounts": {"/d": "~/$A"}})
    assert spec.file_mounts == {"/d": "~/$A"}


@given(texts)
def test_filling_in_is_harmless_without_variables(text: str) -> None:
    assert substitute(text, {}) == text


def test_filling_in_does_not_repeat() -> None:
    assert substitute(["$A-${B}-$AB", {"$A": 1}], {"A": "$B", "B": "b"}) == ["$B-b-$AB", {"$B": 1}]


@pytest.mark.parametrize("config", [{"tasks": None}, {}, {"tasks": [5]}, {"tasks": [{}], "edges": [[0, 1]]}, []])
def test_dags_that_cannot_be_read_back(config: dict[str, object]) -> None:
    with pytest.raises(InvalidSkyPilotConfigError, match="Invalid pipeline YAML"):
        DagSpec.from_config(config)
