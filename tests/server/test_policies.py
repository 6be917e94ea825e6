"""Administrators' policies: classes and web services, on the server and on the client; what they refuse and change."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from townhall import Town

from sky.core.errors import InvalidSkyPilotConfigError, RestfulPolicyError, UserRequestRejectedByPolicy
from sky.sdk import clusters, plans, requests, settings
from sky.server import policies

TASK = {"run": "true", "secrets": {"KEY": "hush"}}


@contextmanager
def town_under(state: Path, policy: str) -> Iterator[Town]:
    town = Town(state, config={"admin_policy": policy, "db": "postgres://hush", "provision": {"hedge": 1}})
    try:
        yield town
    finally:
        town.served.stop()


def launched(town: Town) -> Any:
    """The body of the last launch on record."""
    return list(town.plane.rows.values())[-1].body


def test_a_class_changes_what_is_launched(state: Path):
    with town_under(state, "house_policies.Spot") as town, town.as_(town.move_in("ann")):
        requests.get(clusters.launch(dict(TASK), "a"))
        body = launched(town)
        assert body["task"]["envs"] == {"SEEN_BY_SERVER": "ann"}
        assert body["task"]["secrets"] == {"KEY": "hush"}
        assert "use_spot" in json.dumps(body["task"])
        assert body["config"]["provision"] == {"hedge": 3}
        assert "db" not in body["config"]
        assert body["exec"] is False
        for refused, why in (
            (lambda: clusters.launch({**TASK, "num_nodes": 3}, "b"), "ValueError: 3 nodes are too many"),
            (lambda: clusters.launch(dict(TASK), "kept", down=True), "this one stays"),
            (lambda: requests.get(plans.optimize([{**TASK, "num_nodes": 3}])), "too many"),
        ):
            with pytest.raises(UserRequestRejectedByPolicy, match=why):
                refused()
        assert [row.cluster_name for row in town.plane.rows.values()] == ["a"]


def test_every_request_has_its_name(state: Path):
    with town_under(state, "house_policies.Names") as town, town.as_(town.owner):
        requests.get(clusters.launch(dict(TASK), "a"))
        assert launched(town)["task"]["name"] == "cluster.launch"
        requests.get(clusters.exec(dict(TASK), "one"))
        assert (launched(town)["task"]["name"], launched(town)["exec"]) == ("cluster.exec", True)
        plans.validate([dict(TASK)])
        (plan,) = requests.get(plans.optimize([dict(TASK)]))
        assert plan["task"] == "optimize"


def test_a_policy_that_dies_refuses_and_is_started_again(state: Path):
    with town_under(state, "house_policies.Dies") as town, town.as_(town.owner):
        with pytest.raises(RestfulPolicyError, match="could not be asked"):
            clusters.launch({**TASK, "name": "die"}, "a")
        requests.get(clusters.launch(dict(TASK), "a"))
        assert town.plane.submissions == 1


def test_a_policy_that_does_not_answer_refuses(state: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(policies, "ANSWER_S", 0.5)
    with town_under(state, "house_policies.Sleeps") as town, town.as_(town.owner):
        with pytest.raises(RestfulPolicyError, match="did not answer"):
            clusters.launch(dict(TASK), "a")
        assert town.plane.submissions == 0


@pytest.mark.parametrize("where", ["house_policies.NoPolicy", "house_policies.Missing", "nowhere.Policy", "x"])
def test_a_policy_that_is_none_lets_nothing_through(state: Path, where: str):
    with town_under(state, where) as town, town.as_(town.owner):
        with pytest.raises(InvalidSkyPilotConfigError, match="admin_policy"):
            clusters.launch(dict(TASK), "a")
        assert town.plane.submissions == 0
        assert requests.get(clusters.status(all_users=True)), "what is no launch is not held up"


@pytest.fixture
def client_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def name(policy: str) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(f"admin_policy: {policy}\n")
        monkeypatch.setenv("SKYPILOT_GLOBAL_CONFIG", str(path))

    return name


def test_a_client_has_its_own(town: Town, client_policy: Callable[[str], None], capsys: Any):
    client_policy("house_policies.Spot")
    assert settings.admin_policy() == "house_policies.Spot"
    with town.as_(town.owner):
        requests.get(clusters.launch(dict(TASK), "a"))
        assert launched(town)["task"]["envs"] == {"SEEN_BY_CLIENT": "client"}
        assert launched(town)["config"] == {"provision": {"hedge": 3}}, "it stays where it is"
        with pytest.raises(UserRequestRejectedByPolicy, match="too many"):
            clusters.launch({**TASK, "num_nodes": 3}, "b")
        with pytest.raises(UserRequestRejectedByPolicy, match="too many"):
            requests.get(plans.optimize([{**TASK, "num_nodes": 3}]))
    assert "a policy may print" in capsys.readouterr().out


# --- web services ----------------------------------------------------------------------------------------------------


class Service:
    """A policy as a web service; answers what the test says."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], tuple[int, bytes]] = lambda told: (200, json.dumps(told).encode())
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told = json.loads(self.rfile.read(int(self.headers["content-length"])))
                service.asked.append(told)
                code, body = service.answer(told)
                self.send_response(code)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/policy"
        self.thread = threading.Thread(target=lambda: self.server.serve_forever(0.02))
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join(5)
        self.server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.stop()


def test_a_service_changes_and_refuses(state: Path, service: Service):
    def answer(told: dict[str, Any]) -> tuple[int, bytes]:
        if told["task"].get("num_nodes", 1) > 2:
            return 400, b'{"detail": "too many nodes"}'
        told["task"]["envs"] = {"BY": told["user"]["name"]}
        return 200, json.dumps({"task": told["task"], "skypilot_config": told["skypilot_config"]}).encode()

    service.answer = answer
    with town_under(state, service.url) as town, town.as_(town.move_in("ann")):
        requests.get(clusters.launch(dict(TASK), "a", down=True))
        assert launched(town)["task"]["envs"] == {"BY": "ann"}
        assert launched(town)["task"]["secrets"] == {"KEY": "hush"}, "they come back as they were"
        with pytest.raises(UserRequestRejectedByPolicy, match="too many nodes"):
            clusters.launch({**TASK, "num_nodes": 3}, "b")
    (first, _) = service.asked
    assert "hush" not in json.dumps(first), "no secret goes to the service"
    assert set(first) == {
        "task", "skypilot_config", "request_name", "request_options", "at_client_side", "user", "client_api_version",
        "client_version",
    }  # fmt: skip
    assert first["request_name"] == "cluster.launch"
    assert first["request_options"] == {
        "cluster_name": "a", "idle_minutes_to_autostop": None, "down": True, "dryrun": False
    }  # fmt: skip
    assert (first["at_client_side"], first["user"]["name"]) == (False, "ann")


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (500, b"broken"),
        (403, b"{}"),
        (200, b"not json"),
        (200, b"[]"),
        (200, b'{"task": 1}'),
        (200, b'{"skypilot_config": {}}'),
        (200, b" " * (9 * 1024 * 1024)),
    ],
    ids=range(7),
)
def test_a_service_that_answers_nonsense_lets_nothing_through(state: Path, service: Service, code: int, body: bytes):
    service.answer = lambda told: (code, body)
    with town_under(state, service.url) as town, town.as_(town.owner):
        with pytest.raises(RestfulPolicyError, match="policy"):
            clusters.launch(dict(TASK), "a")
        assert town.plane.submissions == 0


def test_what_a_policy_makes_is_held_to_the_rules_of_tasks(state: Path, service: Service):
    service.answer = lambda told: (200, json.dumps({**told, "task": {"run": "true", "nonsense": 1}}).encode())
    with town_under(state, service.url) as town, town.as_(town.owner):
        with pytest.raises(ValueError, match="nonsense"):
            clusters.launch(dict(TASK), "a")
        assert town.plane.submissions == 0


def test_a_service_that_is_away_lets_nothing_through(state: Path):
    with town_under(state, "http://127.0.0.1:9/") as town, town.as_(town.owner):
        with pytest.raises(RestfulPolicyError, match="could not be asked"):
            clusters.launch(dict(TASK), "a")
        assert town.plane.submissions == 0
