"""Task files: every rule of the interface with a case that holds and one that breaks it, line and column included."""

from pathlib import Path

import pytest

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.dags import DagExecution
from sky.core.model.resources import Resources
from sky.core.model.tasks import GitSource, TaskSpec
from sky.wire.task_yaml import load_config, load_dag, load_task_yaml

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(text: str, **more: object) -> TaskSpec:
    return load_task_yaml(text=text, source="t.yaml", **more)  # type: ignore[arg-type]


def refusal(text: str, **more: object) -> str:
    with pytest.raises(InvalidSkyPilotConfigError) as caught:
        load(text, **more)
    return str(caught.value)


# --- the examples ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_examples_are_valid(path: Path) -> None:
    given = {"GREETING": "hi"} if path.name == "envs_secrets.yaml" else {}
    secrets = {"API_TOKEN": "t"} if path.name == "envs_secrets.yaml" else {}
    for spec in load_dag(path, env_overrides=given, secrets_overrides=secrets).tasks:
        assert spec.run
        assert TaskSpec.from_config(spec.to_config()) == spec
        if spec.workdir is not None:
            assert (EXAMPLES.parent / str(spec.workdir)).is_dir()


# --- what is legal --------------------------------------------------------------------------------------------------


def test_empty_and_name_only_files_are_tasks() -> None:
    assert load("") == TaskSpec()
    assert load("# nothing\n") == TaskSpec()
    assert load("name: a") == TaskSpec(name="a")


def test_null_means_not_given() -> None:
    assert load("name: a\nsetup:\nenvs:\nresources:\nfile_mounts:\nnum_nodes:\n") == TaskSpec(name="a")


def test_variables_are_the_text_that_was_written() -> None:
    text = "envs: {A: yes, B: 010, C: 1.10, D: 2024-01-01, E: null_, F: 1e3, G: '', H: 12:30, NO: on}"
    assert load(text).envs == {
        "A": "yes",
        "B": "010",
        "C": "1.10",
        "D": "2024-01-01",
        "E": "null_",
        "F": "1e3",
        "G": "",
        "H": "12:30",
        "NO": "on",
    }


def test_a_name_is_the_text_that_was_written() -> None:
    assert load("name: no").name == "no"
    assert load("name: 007").name == "007"
    assert load("workdir: {url: https://h/r, ref: 1234567}").workdir == GitSource("https://h/r", "1234567")


def test_variables_of_python_mappings_become_texts() -> None:
    assert load_config({"envs": {"A": 1, "B": True, "C": 1.5}}).envs == {"A": "1", "B": "True", "C": "1.5"}


def test_envs_are_filled_in_where_tasks_allow_it() -> None:
    spec = load(
        "envs: {B: bucket, P: 8080, R: main}\n"
        "workdir: {url: https://x/$B.git, ref: $R}\n"
        "file_mounts: {'/data/${B}': 's3://$B/x', '/s': {source: 's3://${B}'}}\n"
        "volumes: {/v: vol-$B}\n"
        "service: {readiness_probe: '/${B}', replicas: 1, ports: $P}\n"
        "run: echo $B\n"
    )
    assert spec.workdir == GitSource("https://x/bucket.git", "main")
    assert spec.file_mounts == {"/data/bucket": "s3://bucket/x"}
    assert spec.storage_mounts["/s"].source == "s3://bucket"
    assert spec.volumes["/v"].name == "vol-bucket"
    assert spec.service is not None
    assert spec.service.ports == 8080
    assert spec.run == "echo $B"


def test_unknown_variables_and_defaults_are_left_alone() -> None:
    assert load("file_mounts: {/d: '~/$HOME_/${X:-y}'}").file_mounts == {"/d": "~/$HOME_/${X:-y}"}


def test_overrides_fill_nulls_and_replace_values() -> None:
    text = "envs: {A: , B: 1}\nsecrets: {T: }\nworkdir: /x/$A\n"
    spec = load(text, env_overrides=[("A", "a"), ("B", "2"), ("C", "3")], secrets_overrides={"T": "t"})
    assert spec.envs == {"A": "a", "B": "2", "C": "3"}
    assert spec.secrets == {"T": "t"}
    assert spec.workdir == "/x/a"


def test_secrets_stay_out_of_repr() -> None:
    assert "hunter2" not in repr(load("secrets: {T: hunter2}"))


def test_scripts_may_be_lists() -> None:
    assert load("run: [echo a, echo b]\nsetup: [x]").run == "echo a\necho b"


def test_old_names_are_read() -> None:
    spec = load("experimental: {config_overrides: {kubernetes: {provision_timeout: 5}}}\nresources: {gpus: v100:4}")
    assert spec.config == {"kubernetes": {"provision_timeout": 5}}
    assert spec.resources[0].accelerators == {"V100": 4}


def test_both_forms_of_secret_references() -> None:
    spec = load(
        "secrets: ['secrets:A', 'secrets:B']\nmanaged_secrets: [personal.X, {workspace.Y: {mount_path: /run/y}}]"
    )
    assert spec.secret_refs == ("A", "B")
    assert spec.managed_secrets == (("personal.X", None), ("workspace.Y", "/run/y"))


# --- what is refused -------------------------------------------------------------------------------------------------

DOCKER = "SKYPILOT_DOCKER_USERNAME: a, SKYPILOT_DOCKER_PASSWORD: b"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nmae: x", "t.yaml:1:1 (nmae): found unknown field 'nmae' in the task; did you mean 'name'?"),
        ("run: x\nqqqq: 1", "t.yaml:2:1 (qqqq): found unknown field 'qqqq' in the task; allowed: "),
        ("accelerators: H100", "'accelerators' belongs under 'resources'"),
        ("env: {A: 1}", "did you mean 'envs'?"),
        ("name: '-x'", "t.yaml:1:1 (name): found the name '-x'"),
        ("name: a---b", "joined by one or two of . _ -"),
        ("num_nodes: 0", "found the number 0; allowed: at least 1"),
        ("num_nodes: two", "found the text 'two'; allowed: a whole number (how many nodes)"),
        ("num_nodes: 1.5", "found the number 1.5; allowed: a whole number"),
        ("num_nodes: true", "found the boolean true; allowed: a whole number"),
        ("run: {a: b}", "found a mapping with a; allowed: a text or a list (a shell script)"),
        ("run: 5", "put it in quotes"),
        ("setup: [a, [b]]", "(setup[1]): found a list of 1; allowed: a text"),
        ("envs: [A]", "(envs): found a list of 1; allowed: a mapping"),
        ("envs:\n  A:\n", "t.yaml:2:3 (envs.A): found no value for 'A'; give it here, or on"),
        ("secrets: {A: }", "with --secret A="),
        ("envs: {1A: x}", "found the variable name '1A'"),
        ("envs: {A: [1]}", "(envs.A): found a list of 1; allowed: a text or a number or true or false"),
        ("secrets: [A]", "allowed: secrets:NAME"),
        ("managed_secrets: [{a: b}]", "allowed: a name, or {name: {mount_path: PATH}}"),
        (f"envs: {{{DOCKER}}}", "a registry login without SKYPILOT_DOCKER_SERVER"),
        (f"envs: {{{DOCKER}}}\nsecrets: {{SKYPILOT_DOCKER_SERVER: c}}", "the whole registry login in one"),
        ("workdir: ''", "(workdir): found an empty text"),
        ("workdir: {ref: x}", "a git workdir without 'url'"),
        (
            "resources: {acclerators: 1}",
            "Invalid resources YAML: t.yaml:1:13 (resources.acclerators): found unknown field 'acclerators' in "
            "resources; did you mean 'accelerators'?",
        ),
        ("workdir: {url: x, reff: y}", "(workdir.reff): found unknown field 'reff' in workdir; did you mean 'ref'?"),
        ("file_mounts: {/a/: /b}", "Invalid storage YAML: t.yaml:1:15 (file_mounts./a/): found the destination '/a/'"),
        ("file_mounts: {/a: /b/}", "found the source '/b/'; allowed: a path without a '/' at its end"),
        ("file_mounts: {'s3://b': /a}", "found the address 's3://b' as destination"),
        ("file_mounts: {/a: 'gss://b'}", "did you mean 'gs://'?"),
        ("file_mounts: {/a: {nam: x}}", "Invalid storage YAML: t.yaml:1:20 (file_mounts./a.nam): found"),
        ("file_mounts: {/a: 5}", "found the number 5"),
        ("workdir: .\nfile_mounts: {~/sky_workdir: /b}", "the place of the workdir"),
        ("volumes: {v: x}", "Invalid volume YAML: t.yaml:1:11 (volumes.v): found the destination 'v'"),
        ("volumes: {/v: {size: 1, name: x}}", "exactly one of name, size (deleted with the cluster), host_path"),
        ("volumes: {/v: x}\nfile_mounts: {/v: /a}", "the same destination in file_mounts and volumes"),
        ("num_nodes: 2\nvolumes: {/v: {size: 5, config: {access_mode: RWO}}}", "a volume for a single node"),
        ("service: {replicas: 1}", "Invalid service YAML: t.yaml:1:1 (service): found a service without"),
        ("service: {readiness_probe: /, replicas: 1}\npool: {workers: 1}", "found both 'service' and 'pool'"),
        ("pool: {workers: 1, ports: 80}", "a pool has workers; it takes no requests"),
        ("config: {aws: {}}", "Invalid config YAML: t.yaml:1:10 (config.aws): found unknown field 'aws' in config"),
        ("config: {gcp: {labels: {}}}", "(config.gcp.labels): found unknown field 'labels'"),
        ("config: {hooks: [{events: [stop]}]}", "a hook without 'run'"),
        ("config: {hooks: [{run: x, events: [stopp]}]}", "did you mean 'stop'?"),
        ("config: {}\nexperimental: {config_overrides: {}}", "found both 'config' and its old name"),
        ("inputs: {s3://a: -1}", "found the number -1; allowed: at least 0"),
        ("a: 1\n---\nb: 2", "t.yaml:3:1: found a second document"),
        ("resources: H100", "(resources): found the text 'H100'; allowed: a mapping"),
        ("resources:\n  cpus: many", "Invalid resources YAML: t.yaml:2:3 (resources.cpus): found 'many'"),
        ("resources:\n  hooks: []", "hooks belong under 'config.hooks'"),
        ("resources:\n  any_of:\n  - infra: awz", "t.yaml:3:5 (resources.any_of[0].infra): found"),
        ("resources:\n  cpus: 0\n  any_of: [{memory: 1}]", "t.yaml:2:3 (resources.cpus)"),
        ("resources: {any_of: [{}], ordered: [{}]}", "found both 'any_of' and 'ordered'"),
        ("resources: {any_of: [~]}", "found nothing (null) in a list"),
        ("resources: {ordered: [{accelerators: [H100, A100]}]}", "several accelerators in one candidate of 'ordered'"),
        ("resources: {any_of: [{priority: 1}, {priority: 2}]}", "different values of 'priority'"),
        ("resources: {any_of: [{any_of: []}]}", "found unknown field 'any_of' in resources"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, words: str) -> None:
    assert words in refusal(text)


def test_every_problem_is_told_at_once() -> None:
    message = refusal("nmae: x\nnum_nodes: 0\nenvs: {A: }\nresources: {cpus: x, disk_tier: fast}\n")
    assert message.startswith("Invalid task YAML: 5 problems:")
    for path in ("(nmae)", "(num_nodes)", "(envs.A)", "(resources.cpus)", "(resources.disk_tier)"):
        assert path in message


def test_a_file_of_nothing_but_problems_makes_a_short_message() -> None:
    message = refusal("".join(f"{'k' * 200}{i}: 1\n" for i in range(2000)))
    assert message.startswith("Invalid task YAML: 20 problems:")
    assert message.endswith("\n  - and more")
    assert len(message) < 20_000


def test_the_error_carries_what_programs_want() -> None:
    with pytest.raises(InvalidSkyPilotConfigError) as caught:
        load("resources:\n  disk_tier: hihg\n")
    assert caught.value.path == ("resources", "disk_tier")
    assert caught.value.found == "hihg"
    assert caught.value.hint == "high"
    assert "ultra" in caught.value.allowed
    assert len(caught.value.problems) == 1


def test_references_take_no_overrides() -> None:
    assert "a list of references" in refusal("secrets: ['secrets:A']", secrets_overrides={"B": "x"})


def test_errors_name_the_file_as_it_was_given(tmp_path: Path) -> None:
    file = tmp_path / "my task.yaml"
    file.write_text("run: x\nnumnodes: 3\n", encoding="utf-8")
    with pytest.raises(InvalidSkyPilotConfigError) as caught:
        load_task_yaml(file)
    assert f"{file}:2:1 (numnodes)" in str(caught.value)


def test_a_python_value_that_is_no_mapping() -> None:
    with pytest.raises(InvalidSkyPilotConfigError, match="found a list of 1; allowed: a mapping"):
        load_config(["run"])  # type: ignore[arg-type]


# --- candidates ------------------------------------------------------------------------------------------------------


def candidates(text: str) -> tuple[tuple[Resources, ...], str]:
    spec = load(text)
    return spec.resources, spec.resources_order


def test_any_of_is_laid_over_the_base() -> None:
    found, order = candidates(
        "resources:\n  cpus: 4\n  labels: {a: b}\n  infra: aws\n  any_of:\n"
        "  - {infra: gcp/us-central1, labels: {c: d}}\n  - {cloud: azure, cpus: 8}\n"
    )
    assert order == "any_of"
    assert found == (
        Resources(infra="gcp/us-central1", cpus=4, labels={"a": "b", "c": "d"}),
        Resources(infra="azure", cpus=8, labels={"a": "b"}),
    )


@pytest.mark.parametrize(
    ("accelerators", "order"),
    [
        ("[A100, H100]", "ordered"),
        ("{A100: 1, H100: 1}", "any_of"),
        ("{A100, H100}", "any_of"),
        ("{A100:1, H100}", "any_of"),
    ],
)
def test_several_accelerators_are_alternatives(accelerators: str, order: str) -> None:
    expected = (Resources(accelerators="A100"), Resources(accelerators="H100"))
    assert candidates(f"resources: {{accelerators: {accelerators}}}") == (expected, order)


def test_any_of_times_accelerators_without_repeats() -> None:
    found, _ = candidates(
        "resources: {accelerators: {A100: 1, H100: 1}, any_of: [{infra: aws}, {infra: gcp}, {infra: aws}]}"
    )
    assert len(found) == 4


# --- several documents -----------------------------------------------------------------------------------------------


def test_documents_without_header_are_a_pipeline() -> None:
    dag = load_dag(text="name: a\nrun: x\n---\nname: b\nrun: y\n")
    assert [task.name for task in dag.tasks] == ["a", "b"]
    assert (dag.name, dag.execution, dag.edges) == ("a", None, ((0, 1),))


def test_a_name_alone_is_a_header() -> None:
    dag = load_dag(text="name: p\n---\nrun: x\n---\nrun: y\n---\nrun: z\n")
    assert (dag.name, len(dag.tasks), dag.edges) == ("p", 3, ((0, 1), (1, 2)))
    assert load_dag(text="name: p\nexecution: serial\n---\nrun: x\n").execution is DagExecution.SERIAL


GROUP = """
name: group
execution: parallel
primary_tasks: [train]
termination_delay: {default: 30s, log: 1m}
inter_connection: true
---
name: train
run: x
---
name: log
run: y
"""


def test_job_groups() -> None:
    dag = load_dag(text=GROUP)
    assert dag.is_job_group
    assert (dag.primary_tasks, dag.edges, dag.inter_connection) == (("train",), (), True)
    assert dag.termination_delay == {"default": 30.0, "log": 60.0}
    assert type(dag).from_config(dag.to_config()) == dag


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("name: group\n", "", "a job group without 'name'"),
        ("name: group", "name: a.b", "found the job group name 'a.b'"),
        ("name: log", "name: train", "found two tasks called 'train'"),
        ("name: log\n", "", "found a task without a name"),
        ("[train]", "[trian]", "(primary_tasks[0]): found the task 'trian'; allowed: train, log"),
        ("log: 1m", "lgo: 1m", "found the task 'lgo'"),
        ("30s", "soon", "found 'soon'; allowed: a duration"),
        ("parallel", "paralell", "did you mean 'parallel'?"),
        ("parallel", "serial", "found 'primary_tasks' without 'execution: parallel'"),
    ],
)
def test_job_groups_that_are_refused(old: str, new: str, words: str) -> None:
    with pytest.raises(InvalidSkyPilotConfigError) as caught:
        load_dag(text=GROUP.replace(old, new, 1), source="g.yaml")
    assert words in str(caught.value)


def test_errors_in_later_documents_know_their_line() -> None:
    with pytest.raises(InvalidSkyPilotConfigError, match=r"p\.yaml:5:1 \(rnu\)"):
        load_dag(text="name: p\n---\nrun: x\n---\nrnu: y\n", source="p.yaml")


def test_variables_reach_the_tasks_that_name_them() -> None:
    dag = load_dag(text="name: p\n---\nenvs: {A: }\n---\nrun: y\n", env_overrides={"A": "1"})
    assert [dict(task.envs) for task in dag.tasks] == [{"A": "1"}, {}]
