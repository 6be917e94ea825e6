"""``sky.Task`` as programs use it."""

from pathlib import Path

import pytest

import sky
from sky.core.errors import InvalidSkyPilotConfigError, NotSupportedError
from sky.core.model.tasks import TaskSpec
from sky.sdk.tasks import REDACTED, Secret, Task


def test_an_empty_task_whose_attributes_are_assigned() -> None:
    task = Task()
    task.name = "a"
    task.run = "echo"
    task.setup = ["x", "y"]  # type: ignore[assignment]
    task.num_nodes = 2
    task.workdir = "."
    task.envs = {"A": "1"}
    task.resources = {sky.Resources(cpus=2)}
    task.file_mounts = {"/a": "~/b"}
    assert task.to_spec() == TaskSpec(
        name="a",
        run="echo",
        setup="x\ny",
        num_nodes=2,
        workdir=".",
        envs={"A": "1"},
        resources=(sky.Resources(cpus=2),),
        file_mounts={"/a": "~/b"},
    )


def test_the_constructor_takes_every_keyword() -> None:
    task = Task(
        "train",
        setup="pip",
        run=["a", "b"],
        envs={"A": "1"},
        secrets={"T": "t"},
        workdir=Path(),
        num_nodes=2,
        file_mounts={"/a": "~/b"},
        storage_mounts={"/s": sky.Storage(source="s3://b")},
        volumes={"/v": "vol"},
        resources={"any_of": [{"infra": "aws"}, {"infra": "gcp"}]},
        event_callback="x",
        api_server_access=False,
    )
    spec = task.to_spec()
    assert (spec.name, spec.run, spec.workdir, spec.api_server_access) == ("train", "a\nb", ".", False)
    assert spec.file_mounts == {"/a": "~/b"}
    assert spec.storage_mounts["/s"].source == "s3://b"
    assert len(task.resources) == 2
    assert task.event_callback == "x"
    assert TaskSpec.from_config(spec.to_config()) == spec


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"run": lambda rank, ips: ""}, "Task.run is a Python function; only a shell script"),
        ({"run": 5}, "Task.run is a int"),
        ({"setup": ["a", 5]}, "Task.setup is a list"),
        ({"num_nodes": 0}, "allowed: at least 1"),
        ({"name": "a b"}, "found the name 'a b'"),
        ({"envs": {"1": "x"}}, "found the variable name '1'"),
        ({"envs": {"A": None}}, "found no value for 'A'"),
        ({"file_mounts": {"/a/": "b"}}, "without a '/' at its end"),
        ({"volumes": {"v": "x"}}, "begins with / or ~"),
    ],
)
def test_constructors_that_are_refused(keywords: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Task(**keywords)  # type: ignore[arg-type]


def test_an_unknown_keyword() -> None:
    with pytest.raises(TypeError, match="no parameter 'nodes'"):
        Task(nodes=2)


def test_setters_return_the_task_and_leave_it_unchanged_when_they_refuse() -> None:
    task = Task(run="x", envs={"A": "1"}, file_mounts={"/a": "b"})
    assert task.update_envs({"B": "2"}) is task
    assert task.update_secrets([("S", "s")]) is task
    assert task.set_resources(sky.Resources(cpus=1)) is task
    assert task.set_resources_override({"cpus": 2}) is task
    assert task.update_file_mounts({"/c": "d"}) is task
    assert task.set_storage_mounts({"/s": sky.Storage(name="bucket")}) is task
    assert task.update_storage_mounts({"/t": sky.Storage(source="s3://b")}) is task
    assert task.set_volumes({"/v": "vol"}).update_volumes({"/w": {"size": 5}}) is task
    assert task.set_inputs("s3://in", 3).set_outputs("s3://out", 4) is task
    assert task.set_service({"readiness_probe": "/", "replicas": 1}) is task
    before = task.to_spec()
    for refuse in (
        lambda: task.update_envs({"A": None}),  # type: ignore[dict-item]
        lambda: task.update_envs([("A", "1", "2")]),  # type: ignore[list-item]
        lambda: task.set_file_mounts({"/a/": "b"}),
        lambda: task.set_file_mounts({"/a": {"name": "x"}}),  # type: ignore[dict-item]
        lambda: task.set_volumes({"v": "x"}),
        lambda: task.set_service({"replicas": 1}),
        lambda: task.set_resources_override({"cpus": "x"}),
        lambda: setattr(task, "num_nodes", -1),
    ):
        with pytest.raises(ValueError):
            refuse()
    assert task.to_spec() == before
    assert set(before.storage_mounts) == {"/s", "/t"}
    assert (task.get_inputs(), task.get_estimated_inputs_size_gigabytes()) == ("s3://in", 3)
    assert (task.get_outputs(), task.get_estimated_outputs_size_gigabytes()) == ("s3://out", 4)


def test_variables_are_filled_in_when_they_are_read() -> None:
    task = Task.from_yaml_config({"envs": {"A": "1"}, "file_mounts": {"/d": "s3://$A"}, "workdir": "/w/${A}"})
    task.update_envs({"A": "2"})
    assert task.file_mounts == {"/d": "s3://2"}
    assert task.workdir == "/w/2"
    task.envs["A"] = "3"
    assert task.to_spec().file_mounts == {"/d": "s3://3"}
    assert task.get_cloud_to_remote_file_mounts() == {"/d": "s3://3"}
    assert task.get_local_to_remote_file_mounts() is None


def test_secrets_are_hidden() -> None:
    task = Task(secrets={"T": "hunter2"})
    assert task.secrets == {"T": Secret("hunter2")}
    assert "hunter2" not in repr(task.secrets) + repr(task) + str(task.secrets["T"]) + str(task.to_yaml_config())
    assert task.to_yaml_config()["secrets"] == {"T": REDACTED}
    assert task.to_yaml_config(redact_secrets=False)["secrets"] == {"T": "hunter2"}
    assert task.secrets["T"].get_secret_value() == "hunter2"
    assert task.envs_and_secrets == {"T": "hunter2"}


def test_a_registry_login_may_be_given_piece_by_piece() -> None:
    task = Task().update_secrets({"SKYPILOT_DOCKER_USERNAME": "u"})
    with pytest.raises(InvalidSkyPilotConfigError, match="without SKYPILOT_DOCKER_PASSWORD, SKYPILOT_DOCKER_SERVER"):
        task.to_spec()
    task.update_secrets({"SKYPILOT_DOCKER_PASSWORD": "p"}).update_secrets({"SKYPILOT_DOCKER_SERVER": "s"})
    assert len(task.to_spec().secrets) == 3


def test_files_are_read_by_path_or_text(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("name: t\nrun: x\nenvs: {A: yes}\nresources: {accelerators: [H100, A100]}\n", encoding="utf-8")
    for task in (Task.from_yaml(file), Task.from_yaml(str(file)), Task.from_yaml_str(file.read_text(encoding="utf-8"))):
        assert (task.name, task.envs) == ("t", {"A": "yes"})
        assert task.resources == [sky.Resources(accelerators="H100"), sky.Resources(accelerators="A100")]


def test_files_that_are_wrong_say_where(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("run: x\nresources:\n  cpu: 2\n", encoding="utf-8")
    with pytest.raises(InvalidSkyPilotConfigError, match=r"t\.yaml:3:3 \(resources\.cpu\).*did you mean 'cpus'"):
        Task.from_yaml(file)
    with pytest.raises(InvalidSkyPilotConfigError, match="there is no file"):
        Task.from_yaml(tmp_path / "u.yaml")


def test_mappings_are_read_through_class_and_instance() -> None:
    config = {"run": "x", "envs": {"A": None}, "secrets": {"S": None}}
    task = Task().from_yaml_config(config=config, env_overrides={"A": "1"}, secrets_overrides={"S": "s"})
    assert (task.envs, task.envs_and_secrets) == ({"A": "1"}, {"A": "1", "S": "s"})
    assert config == {"run": "x", "envs": {"A": None}, "secrets": {"S": None}}


def test_the_yaml_of_a_task_is_the_task() -> None:
    task = Task(
        "a",
        run="x",
        envs={"E": "1"},
        resources=[sky.Resources(cpus=1), sky.Resources(cpus=2)],
        file_mounts={"/a": "$E"},
    )
    assert Task.from_yaml_config(task.to_yaml_config()).to_spec() == task.to_spec()
    assert Task.from_spec(task.to_spec()).to_spec() == task.to_spec()


def test_candidates_keep_their_kind() -> None:
    task = Task()
    assert task.resources == {sky.Resources()}
    task.set_resources([sky.Resources(infra="aws"), sky.Resources(infra="gcp")])
    assert task.resources == [sky.Resources(infra="aws"), sky.Resources(infra="gcp")]
    assert task.get_resource_config() == {"ordered": [{"infra": "aws"}, {"infra": "gcp"}]}
    task.set_resources(type(task.resources)(one.copy(use_spot=True) for one in task.resources))
    assert task.use_spot
    assert task.set_resources({"infra": "local"}).resources == {sky.Resources(infra="local")}
    assert task.set_resources_override({"cpus": 4}).get_resource_config() == {"infra": "local", "cpus": "4"}
    with pytest.raises(TypeError, match=r"takes a sky.Resources"):
        task.set_resources([])
    with pytest.raises(TypeError, match=r"takes a sky.Resources"):
        task.set_resources(["aws"])  # type: ignore[list-item]


def test_validate_reads_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    Task(workdir=tmp_path, file_mounts={"/a": f"{tmp_path}/file", "/b": "s3://b"}).validate()
    Task(workdir={"url": "https://h/r"}).validate()
    with pytest.raises(InvalidSkyPilotConfigError, match=r"the workdir '.*missing' does not exist"):
        Task(workdir=tmp_path / "missing").validate()
    with pytest.raises(InvalidSkyPilotConfigError, match="is a file"):
        Task(workdir=tmp_path / "file").validate()
    with pytest.raises(InvalidSkyPilotConfigError, match=r"the source '.*missing' does not exist"):
        Task(file_mounts={"/a": f"{tmp_path}/missing"}).validate()
    Task(file_mounts={"/a": f"{tmp_path}/missing"}).validate(skip_file_mounts=True)
    Task(workdir=tmp_path / "missing").validate(skip_workdir=True)


def test_workdirs_from_a_command_line() -> None:
    assert Task().update_workdir("x").workdir == "x"
    task = Task().update_workdir(git_url="https://h/r")
    assert task.update_workdir(git_ref="main").workdir == {"url": "https://h/r", "ref": "main"}
    with pytest.raises(ValueError, match="not both"):
        task.update_workdir("x", git_url="y")
    with pytest.raises(ValueError, match="needs a git workdir"):
        Task(workdir="x").update_workdir(git_ref="main")


def test_estimates() -> None:
    with pytest.raises(NotImplementedError, match="no estimator"):
        Task("a").estimate_runtime(sky.Resources())
    assert Task("a").set_time_estimator(lambda resources: 5.0).estimate_runtime(sky.Resources()) == 5.0


def test_what_needs_later_issues_says_so() -> None:
    task = Task(storage_mounts={"/s": sky.Storage(name="bucket")}, volumes={"/v": "vol"})
    with pytest.raises(NotSupportedError):
        task.sync_storage_mounts()
    with pytest.raises(NotSupportedError):
        task.resolve_and_validate_volumes()
    Task().sync_storage_mounts()


def test_services_and_pools() -> None:
    task = Task.from_yaml_config({"pool": {"workers": 2}})
    assert task.pool
    service = task.service
    assert service is not None
    assert Task().set_service(service).to_spec().pool
    assert Task().set_service(service).set_service(None).service is None


def test_repr_is_short() -> None:
    task = Task("a", run="echo " + "x" * 100, num_nodes=2, resources=sky.Resources(infra="local", cpus=1))
    assert repr(task).startswith("Task<a>(run='echo xxxx")
    assert repr(task).endswith("num_nodes=2, resources=local(cpus=1))")
    assert len(repr(task)) < 120
