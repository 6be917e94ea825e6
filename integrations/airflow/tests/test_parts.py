"""The parts that need no Airflow to run: connections, names, task files, lines of a log, what a DAG file imports."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_sky import names
from airflow_sky.hooks import SkyHook, server_of
from airflow_sky.lines import LAST_LINES, Lines
from airflow_sky.provider import get_provider_info
from airflow_sky.runs import Ended, Work, is_lasting
from airflow_sky.tasks import is_path, read_tasks

DAGS = Path(__file__).parents[1] / "examples" / "dags"


def connection(**fields):
    from airflow.sdk import Connection

    return Connection(conn_id="c", conn_type="sky", **fields)


@pytest.mark.parametrize(
    ("fields", "endpoint", "token"),
    [
        ({}, None, None),
        ({"host": "https://sky.example.org", "password": "t"}, "https://sky.example.org", "t"),
        ({"host": "sky.example.org", "port": 46580, "password": "t"}, "http://sky.example.org:46580", "t"),
        ({"host": "sky.example.org", "schema": "https"}, "https://sky.example.org", None),
        ({"host": "http://10.0.0.1:8000/"}, "http://10.0.0.1:8000", None),
        ({"host": "unix:///run/sky.sock", "port": 1}, "unix:///run/sky.sock", None),
        ({"host": "https://h", "login": "a b", "password": "p@s"}, "https://a%20b:p%40s@h", None),
    ],
)
def test_what_a_connection_means(fields, endpoint, token):
    found = server_of(connection(**fields))
    assert (found.endpoint, found.token) == (endpoint, token)
    assert "p%40s" not in repr(found)


def test_a_token_in_the_address_is_refused_without_showing_it():
    with pytest.raises(ValueError, match="login and password") as refused:
        server_of(connection(host="https://:tok@sky.example.org"))
    assert "tok@" not in str(refused.value)


def test_the_connections_server_is_the_one_that_is_called(monkeypatch):
    import sky
    from sky.sdk.transport import current_endpoint

    monkeypatch.setenv("AIRFLOW_CONN_THERE", '{"conn_type": "sky", "host": "http://127.0.0.1:9", "password": "t"}')
    hook = SkyHook("there")
    with hook.serving():
        assert str(current_endpoint()) == "http://127.0.0.1:9"
        assert current_endpoint().token == "t"
    fine, said = hook.test_connection()
    assert not fine
    assert "127.0.0.1:9" in said
    assert hook.get_conn().ClusterStatus is sky.ClusterStatus
    with pytest.raises(sky.exceptions.ApiServerConnectionError):
        hook.get_conn().jobs.queue()


def test_a_connection_that_was_named_must_be_there():
    from airflow.sdk.exceptions import AirflowNotFoundException

    with pytest.raises(AirflowNotFoundException):
        SkyHook("nowhere").server()


def context(**changed):
    ti = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, **changed}
    return {
        "ti": SimpleNamespace(**ti),
        "dag_run": SimpleNamespace(start_date=changed.get("at", datetime(2026, 1, 1, tzinfo=UTC))),
    }


def test_names_tell_task_instances_apart_and_tries_together():
    stem = names.stem_of(context(), None)
    assert stem == names.stem_of(context(), None)
    others = {"dag_id": "e", "run_id": "s", "task_id": "u", "map_index": 0, "at": datetime(2026, 1, 2, tzinfo=UTC)}
    assert len({stem, *(names.stem_of(context(**{key: value}), None) for key, value in others.items())}) == 6
    assert names.before(stem, 1) == []
    assert names.before(stem, 3) == [f"{stem}-t2", f"{stem}-t1"]
    assert len(names.before(stem, 100)) == 5
    assert names.slug("Ünter den_Linden 7!") == "nter-den-linden-7"
    assert names.slug("7up") == "a-7up"
    assert len(names.of_try(names.stem_of(context(), "x" * 200), 12)) < 50


def test_task_files_texts_and_mappings(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "t.yaml").write_text("workdir: code\nenvs: {A: 1}\nfile_mounts: {/data: ./d}\nrun: echo $A\n")
    (tmp_path / "sub" / "code").mkdir()
    (tmp_path / "sub" / "d").write_text("")
    (task,) = read_tasks("sub/t.yaml", tmp_path, envs={"A": 2}, secrets={"S": "hidden"}, resources={"infra": "local"})
    assert task.workdir == str(tmp_path / "sub" / "code")
    assert task.file_mounts == {"/data": str(tmp_path / "sub" / "d")}
    assert task.envs == {"A": "2"}
    assert "hidden" not in json.dumps(task.to_yaml_config())
    (text,) = read_tasks("run: echo x.yaml", tmp_path)
    assert text.run == "echo x.yaml"
    (mapping,) = read_tasks({"run": "true"}, tmp_path)
    assert mapping.run == "true"
    assert len(read_tasks([{"run": "true"}, "run: 'false'"], tmp_path)) == 2
    assert len(read_tasks("name: both\n---\nname: a\nrun: 'true'\n---\nname: b\nrun: 'true'\n", tmp_path).tasks) == 2
    with pytest.raises(FileNotFoundError, match="DAG's folder"):
        read_tasks("nothing.yaml", tmp_path)
    (tmp_path / "bad.yaml").write_text("runn: x\n")
    with pytest.raises(ValueError, match="runn"):
        read_tasks("bad.yaml", tmp_path)
    with pytest.raises(ValueError, match=r"envs\['A'\]"):
        read_tasks({"run": "true"}, tmp_path, envs={"A": [1]})


@pytest.mark.parametrize(
    ("given", "path"), [("a.yaml", True), ("b/c.yml", True), ("run: x.yaml", False), ("run: |\n  a.yaml", False)]
)
def test_what_is_a_path(given, path):
    assert is_path(given) is path


def test_lines_are_told_whole_and_once():
    told = []
    lines = Lines(told.append)
    lines.write("one\ntw")
    lines.write("o\n10%\r90%\rdone\n\n")
    assert told == ["one", "two", "done"]
    lines.again()
    lines.write("one\ntwo\n10%\r90%\rdone\n\nthree")
    lines.finish()
    assert told == ["one", "two", "done", "three"]
    lines.begin()
    assert lines.last == []
    hiding = Lines(told.append, ["s3cret", "s3cret-and-more", "x"])
    hiding.write("a s3cret-and-more, ")
    hiding.write("a s3cret x\n")
    assert told[-1] == "a ***, a *** x"
    lines.write("x\n" * 100)
    assert len(lines.last) == LAST_LINES


def test_runs_travel_as_plain_data():
    ended = Ended(Work("launch", "n", "c", own=True, request_id="r", job_id=3), 100, "FAILED", last_lines=["a"])
    assert Ended.from_told(json.loads(json.dumps(ended.told()))) == ended
    assert is_lasting(ValueError())
    assert not is_lasting(RuntimeError())


def test_a_trigger_is_made_anew_from_what_is_kept_of_it():
    from airflow_sky.triggers import SkyJobTrigger, opened, sealed

    path, kept = SkyJobTrigger(Work("managed", "n").told(), "far").serialize()
    assert path == f"{SkyJobTrigger.__module__}.{SkyJobTrigger.__qualname__}"
    assert SkyJobTrigger(**kept).serialize() == (path, kept)
    kept_words = sealed(["s3cret"])
    assert "s3cret" not in str(kept_words)
    assert opened(kept_words) == ["s3cret"]
    with pytest.raises(ValueError, match="fernet_key"):
        opened(["s3cret"])
    assert "s3cret" not in repr(SkyJobTrigger(Work("managed", "n").told(), hidden=["s3cret"]))


def test_what_the_provider_says_fits_airflows_schema():
    import airflow
    import jsonschema

    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_airflow_knows_the_provider():
    code = "from airflow.providers_manager import ProvidersManager as P; p = P(); print(p.hooks['sky'].hook_name, p.providers['airflow-provider-sky'].version)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split()[-2:] == ["Sky", "0.1.0"]


def test_reading_dag_files_does_not_import_the_sdk():
    code = (
        "import runpy, sys\n"
        f"runpy.run_path({str(DAGS / 'sky_train.py')!r})\n"
        "import airflow_sky.sensors, airflow_sky.triggers, airflow_sky.hooks\n"
        "print([name for name in sys.modules if name == 'sky' or name.startswith('sky.')])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip().endswith("[]"), told.stdout


def test_wrong_uses_are_refused_where_the_dag_is_written():
    from airflow_sky import SkyExecOperator, SkyManagedJobOperator

    with pytest.raises(ValueError, match="of its own"):
        SkyManagedJobOperator(task_id="t", sky_task="run: 'true'", cluster_name="c")
    with pytest.raises(TypeError, match="cluster_name"):
        SkyExecOperator(task_id="t", sky_task="run: 'true'")


def test_the_examples_of_the_readme_are_dags():
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    import airflow_sky

    blocks = re.findall(r"```python\n(.*?)```", (DAGS.parents[1] / "README.md").read_text(), re.DOTALL)
    nightly, outcome, shared = blocks
    names_of_one: dict = {}
    exec(nightly, names_of_one)
    assert set(eval(outcome)) == {"cluster_name", "job_id", "request_id", "status", "exit_code", "infra", "cost"}
    with DAG("shared") as dag:
        exec(shared, {name: getattr(airflow_sky, name) for name in airflow_sky.__all__})
    told = DagSerialization.to_dict(dag)
    assert [each["__var"]["task_id"] for each in told["dag"]["tasks"]] == ["first", "second", "down"]
    assert dag.get_task("down").is_teardown


def test_a_task_of_the_sdk_may_be_given():
    import sky
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    from airflow_sky import SkyLaunchOperator

    task = sky.Task(run="echo {{ ds }}")
    with DAG("of_the_sdk") as dag:
        operator = SkyLaunchOperator(task_id="t", sky_task=task, name="{{ ds }}")
    assert DagSerialization.to_dict(dag)
    operator.render_template_fields({"ds": "2026-01-01"})
    assert operator.name == "2026-01-01"
    assert read_tasks(operator.sky_task, Path.cwd(), envs={"A": 1})[0].envs == {"A": "1"}
