"""Configuration of a call: files, and over them what this call is given; the same for a program and for the command."""

import contextvars
from pathlib import Path

import pytest
from serving import Served

from sky import cli
from sky.core.errors import InvalidSkyPilotConfigError
from sky.sdk import clusters, settings, transport


def alone(function, *arguments):
    """Run in a context of its own, so that an override does not reach the next test."""
    return contextvars.copy_context().run(function, *arguments)


@pytest.fixture
def project(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".sky.yaml").write_text("local: {cpus: 3}\napi_server: {endpoint: 'http://10.0.0.1:1'}\n")
    return tmp_path


def test_a_launch_carries_the_layers_but_not_what_is_for_the_client(served: Served, project: Path) -> None:
    id = clusters.launch({"run": "true"}, "one")
    assert served.plane.rows[str(id)].body["config"] == {"local": {"cpus": 3}}


def test_an_override_wins_and_also_names_the_endpoint(project: Path) -> None:
    def look() -> tuple[object, object]:
        settings.override(["local.cpus=5,api_server.endpoint=http://10.0.0.2:2"])
        return settings.layers(), settings.endpoint()[0]

    assert alone(look) == ({"local": {"cpus": 5}}, "http://10.0.0.2:2")
    assert settings.layers() == {"local": {"cpus": 3}}


def test_the_environment_wins_over_configuration(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def where() -> str:
        return str(transport.current_endpoint())

    def configured() -> str:
        return contextvars.Context().run(where)  # outside of the fixture's endpoint

    assert configured() == "http://10.0.0.1:1"
    monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", "http://10.0.0.3:3")
    assert configured() == "http://10.0.0.3:3"


def test_a_bad_override_is_refused_at_once(project: Path) -> None:
    with pytest.raises(InvalidSkyPilotConfigError):
        alone(settings.override, ["no_such_key=1"])


@pytest.mark.parametrize("command", [["launch", "-y", "-c", "one"], ["exec", "one"]])
def test_config_of_the_command_reaches_launch_and_exec(served: Served, project: Path, command: list[str]) -> None:
    words = [*command, "-d", "--config", "local.cpus=7", "true"]
    assert alone(cli.main, words) == 0
    bodies = [row.body for row in served.plane.rows.values() if row.name in ("launch", "exec")]
    assert [body["config"] for body in bodies] == [{"local": {"cpus": 7}}]
