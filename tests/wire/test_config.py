"""Configuration: which file is read, what lies over what, and where a mistake stands."""

from pathlib import Path

import pytest

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.layers import merge
from sky.wire.config import Config, LocalMachine, load_config


class Place:
    """A home and a project folder with their files."""

    def __init__(self, root: Path) -> None:
        self.home, self.cwd = root / "home", root / "project"
        (self.home / ".sky").mkdir(parents=True)
        self.cwd.mkdir()

    def user(self, text: str) -> None:
        (self.home / ".sky" / "config.yaml").write_text(text, encoding="utf-8")

    def project(self, text: str) -> None:
        (self.cwd / ".sky.yaml").write_text(text, encoding="utf-8")

    def load(self, *overrides: str, **env: str) -> Config:
        return load_config(overrides, env=env, cwd=self.cwd, home=self.home)

    def refusal(self, *overrides: str, **env: str) -> str:
        with pytest.raises(InvalidSkyPilotConfigError) as caught:
            self.load(*overrides, **env)
        return str(caught.value)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_nothing_is_a_configuration(place: Place) -> None:
    config = place.load()
    assert config.to_dict() == {}
    assert config.get(("a", "b"), 5) == 5
    assert config.local == LocalMachine()
    place.user("")
    assert place.load().to_dict() == {}


def test_layers_lie_over_one_another(place: Place) -> None:
    place.user("kubernetes: {namespace: a, provision_timeout: 1}\nallowed_clouds: [aws, gcp]\n")
    place.project("kubernetes: {provision_timeout: 2, kueue: {local_queue_name: q}}\nallowed_clouds: [local]\n")
    (place.cwd / "more.yaml").write_text("kubernetes: {provision_timeout: 3}\n", encoding="utf-8")
    config = place.load("more.yaml", "kubernetes.kueue.admission_timeout=4", "docker.run_options=[-v, --x]")
    assert config.to_dict() == {
        "kubernetes": {
            "namespace": "a",
            "provision_timeout": 3,
            "kueue": {"local_queue_name": "q", "admission_timeout": 4},
        },
        "allowed_clouds": ["local"],
        "docker": {"run_options": ["-v", "--x"]},
    }
    assert config.sources[2:] == ("more.yaml", "kubernetes.kueue.admission_timeout", "docker.run_options")
    assert config.get_nested(("kubernetes", "kueue", "local_queue_name")) == "q"


def test_variables_name_other_files_which_must_exist(place: Place, tmp_path: Path) -> None:
    place.user("aws: {a: 1}\n")
    place.project("aws: {b: 1}\n")
    (tmp_path / "u.yaml").write_text("gcp: {c: 1}\n", encoding="utf-8")
    config = place.load(SKYPILOT_GLOBAL_CONFIG=str(tmp_path / "u.yaml"))
    assert config.to_dict() == {"gcp": {"c": 1}, "aws": {"b": 1}}
    assert "there is no file" in place.refusal(SKYPILOT_PROJECT_CONFIG="missing.yaml")
    assert "there is no file" in place.refusal("missing.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "kubernets: {}",
            ":1:1 (kubernets): found unknown field 'kubernets' in the configuration; did you mean 'kubernetes'?",
        ),
        ("api_server:\n  endpont: x", ":2:3 (api_server.endpont)"),
        ("allowed_clouds: [awz]", "(allowed_clouds[0]): found the cloud 'awz'; did you mean 'aws'?"),
        ("local: {accelerators: [H100]}", "(local.accelerators): found a list of 1"),
        ("local: {accelerators: {H100: 1.5}}", "a whole number, or a fraction below 1"),
        ("local: {cpus: -1}", "at least 0"),
        ("local: {memory: lots}", "(local): found 'lots'"),
        ("jobs: {controller: {resources: {cpu: 2}}}", "did you mean 'cpus'?"),
        ("echo hi", "allowed: a mapping of fields"),
        ("a: 1\na: 2", "twice"),
        ("aws: {}\n---\naws: {}", ":3:1: found a second document"),
    ],
)
def test_what_is_refused(place: Place, text: str, words: str) -> None:
    place.user(text)
    message = place.refusal()
    assert message.startswith("Invalid config YAML: ")
    assert words in message
    assert str(place.home) in message


def test_dotted_overrides_are_checked_like_files(place: Place) -> None:
    assert "--config aip_server.endpoint" in place.refusal("aip_server.endpoint=x")
    assert "an empty key" in place.refusal("a..b=1")


def test_the_pretended_machine(place: Place) -> None:
    place.user("local: {accelerators: {h100: 8, L4: 0}, cpus: 64, memory: 1TB}\n")
    assert place.load().local == LocalMachine({"H100": 8}, 64, 1024.0)
    place.user("local: {accelerators: {}}\n")
    assert place.load().local == LocalMachine({})


def test_copies_are_handed_out(place: Place) -> None:
    place.user("aws: {a: [1]}\n")
    config = place.load()
    config.get(("aws", "a")).append(2)
    config.to_dict()["aws"]["a"].append(3)
    assert config.get(("aws", "a")) == [1]


def test_a_token_stays_out_of_repr(place: Place) -> None:
    place.user("api_server: {service_account_token: sky_hunter2}\n")
    assert "hunter2" not in repr(place.load())


def test_null_says_nothing() -> None:
    assert merge({"a": 1, "b": {"c": 2}}, {"a": None, "b": {"c": None, "d": 3}}) == {"a": 1, "b": {"c": 2, "d": 3}}
