"""The calls of the server over a real socket: shapes of answers, errors, kept reads."""

import json
from dataclasses import replace

import pytest
from serving import Served
from small_plane import cluster

from sky.core.model.clusters import Phase
from sky.version import API_VERSION

#: Every route that the interface promises.
ROUTES = [
    *("/launch", "/exec", "/start", "/stop", "/down", "/autostop", "/cancel", "/chaos"),
    *("/status", "/queue", "/job_status", "/cost_report", "/ledger", "/endpoints", "/cluster_events"),
    *("/check", "/enabled_clouds", "/list_accelerators", "/list_accelerator_counts", "/optimize", "/validate"),
    *("/logs", "/download_logs", "/provision_logs"),
    *("/api/get", "/api/stream", "/api/status", "/api/cancel", "/api/server_logs"),
    *("/health", "/api/health", "/api/shutdown", "/openapi.json"),
    *("/api/uploads/missing", "/api/uploads/{hash}"),
]


def test_health_says_who_answers(served: Served) -> None:
    status, told, headers = served.call("GET", "/api/health")
    assert status == 200
    assert told["status"] == "healthy"
    assert told["user"]["name"]
    assert headers["x-skypilot-api-version"] == str(API_VERSION)
    assert served.call("GET", "/health")[1]["api_version"] == str(API_VERSION)


def test_status_is_answered_in_one_round_trip_and_kept_for_a_late_get(served: Served) -> None:
    status, told, headers = served.call("POST", "/status", {})
    assert status == 200
    assert [each["name"] for each in told["result"]] == ["one", "two"]
    assert headers["x-skypilot-request-id"] == told["request_id"]
    first = told["result"][0]
    assert first["status"] == "UP"
    assert first["handle"]["head_ip"] == "127.0.0.2"
    assert first["last_event"] == "is up"
    later = served.call("GET", f"/api/get?request_id={told['request_id'][:13]}")[1]
    assert later["status"] == "SUCCEEDED"
    assert later["result"] == told["result"]


def test_status_never_shows_a_secret(served: Served) -> None:
    _, told, _ = served.call("POST", "/status", {})
    text = json.dumps(told)
    assert "hidden-value" not in text
    assert "redacted" in text
    assert served.call("POST", "/status", {"summary": True})[1]["result"][0]["last_creation_yaml"] is None


def test_status_is_computed_anew_once_a_change_is_signalled(served: Served) -> None:
    served.call("POST", "/status", {})
    reads = served.plane.status_reads
    served.call("POST", "/status", {})
    assert served.plane.status_reads == reads

    def change() -> None:
        served.plane.known["one"] = cluster("one", phase=Phase.DEGRADED, reason="the agent is gone")
        served.plane.signals.notify("clusters")

    served.do(change)
    told = served.call("POST", "/status", {})[1]["result"][0]
    assert told["status"] == "INIT"
    assert told["init_status_reason"] == "the agent is gone"
    assert told["init_kind"] == "unhealthy"


def test_forced_refresh_is_never_answered_from_memory(served: Served) -> None:
    served.call("POST", "/status", {})
    reads = served.plane.status_reads
    served.call("POST", "/status", {"refresh": "FORCE"})
    assert served.plane.status_reads == reads + 1


def test_mutation_is_recorded_once_per_id(served: Served) -> None:
    id = "11111111-2222-4333-8444-555555555555"
    body = {"task": {"run": "true"}, "cluster_name": "one"}
    first = served.call("POST", "/launch", body, X_Skypilot_Request_ID=id)
    again = served.call("POST", "/launch", body, X_Skypilot_Request_ID=id)
    assert first[1] == again[1] == {"request_id": id}
    assert served.plane.submissions == 1
    assert served.plane.rows[id].body["exec"] is False
    outcome = served.call("GET", "/api/get?request_id=11111111")[1]
    assert outcome["result"] == {"job_id": 7, "cluster_name": "one"}
    assert outcome["cluster_name"] is None or outcome["cluster_name"] == "one"


def test_get_returns_what_is_known_when_the_time_is_up(served: Served) -> None:
    served.plane.hold.add("launch")
    id = served.call("POST", "/launch", {"task": {}})[1]["request_id"]
    assert served.call("GET", f"/api/get?request_id={id}&timeout=0.05")[1]["status"] == "PENDING"


def test_failed_read_tells_its_error_at_once_and_later(served: Served) -> None:
    status, told, _ = served.call("POST", "/queue", {"cluster_name": "nope"})
    assert status == 404
    assert told["error"]["type"] == "ClusterDoesNotExist"
    later = served.call("GET", f"/api/get?request_id={told['request_id']}")[1]
    assert later["status"] == "FAILED"
    assert later["error"] == told["error"]


def test_unforeseen_failure_tells_the_client_an_id_and_nothing_else(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    status, told, _ = served.call("POST", "/queue", {"cluster_name": "bug"})
    assert status == 500
    assert told["error"]["type"] == "SkyError"
    assert "secret-detail" not in told["error"]["message"]
    mark = told["error"]["message"].split("failure ")[1].split(")")[0]
    assert mark in caplog.text
    assert "secret-detail" in caplog.text


@pytest.mark.parametrize(
    ("path", "body", "has"),
    [
        ("/queue", {"cluster_name": "one"}, [1, 2, 3]),
        ("/queue", {"cluster_name": "one", "skip_finished": True}, [2]),
    ],
)
def test_queue(served: Served, path: str, body: object, has: list[int]) -> None:
    assert [each["job_id"] for each in served.call("POST", path, body)[1]["result"]] == has


def test_job_status_names_the_newest_or_those_asked_for(served: Served) -> None:
    assert served.call("POST", "/job_status", {"cluster_name": "one"})[1]["result"] == {"3": "FAILED"}
    asked = {"cluster_name": "one", "job_ids": [1, 99]}
    assert served.call("POST", "/job_status", asked)[1]["result"] == {"1": "SUCCEEDED", "99": None}


def test_cost_of_an_interval_is_hours_times_price(served: Served) -> None:
    told = served.call("POST", "/cost_report", {})[1]["result"][0]
    assert told["duration"] == 3600
    assert told["total_cost"] == pytest.approx(2.0)


def test_lines_of_the_ledger_are_told_with_what_they_cost(served: Served) -> None:
    assert served.call("POST", "/ledger", {})[1]["result"] == []
    told = served.call("POST", "/ledger", {"all": True})[1]["result"]
    assert [(each["cluster"], each["kind"], each["cost"]) for each in told] == [
        ("one", "machine", 2.0),
        ("gone", "machine", 4.0),
    ]
    assert served.call("POST", "/ledger", {"days": -1})[0] == 400
    assert served.call("POST", "/ledger", {"cluster": "x" * 300})[0] == 400


def test_accelerators_are_filtered_and_joined_with_their_spot_price(served: Served) -> None:
    told = served.call("POST", "/list_accelerators", {"name_filter": "h1", "case_sensitive": False})[1]["result"]
    assert list(told) == ["H100"]
    assert (told["H100"][0]["price"], told["H100"][0]["spot_price"]) == (0.0, 0.5)
    assert served.call("POST", "/list_accelerator_counts", {})[1]["result"] == {"A100": [2.0], "H100": [8.0]}


def test_optimize_tells_what_was_chosen_and_what_was_not(served: Served) -> None:
    told = served.call("POST", "/optimize", {"tasks": [{"name": "t", "run": "x"}]})[1]["result"][0]
    assert told["task"] == "t"
    assert told["placements"][0]["chosen"] is True
    assert told["rejections"][0]["reason"] == "not enabled"


def test_check_events_endpoints_and_clouds(served: Served) -> None:
    check = served.call("POST", "/check", {})[1]["result"]["default"]
    assert check["aws"]["hint"] == "run: aws configure"
    assert served.call("POST", "/enabled_clouds", {})[1]["result"] == ["local"]
    assert served.call("POST", "/endpoints", {"cluster": "one"})[1]["result"] == {"8080": "http://127.0.0.2:8080"}
    events = served.call("POST", "/cluster_events", {"cluster_name": "one"})[1]["result"]
    assert events[0]["text"] == "the agent answers"


def test_requests_are_listed_without_their_arguments(served: Served) -> None:
    served.call("POST", "/launch", {"task": {"secrets": {"K": "hidden-value"}}, "command": "sky launch x"})
    told = served.call("GET", "/api/status?all=true")[1]
    assert told[0]["entrypoint"] == "sky launch x"
    assert "hidden-value" not in json.dumps(told)
    assert served.call("GET", "/api/status")[1] == []


def test_cancel_takes_prefixes(served: Served) -> None:
    served.plane.hold.add("launch")
    id = served.call("POST", "/launch", {"task": {}})[1]["request_id"]
    assert served.call("POST", "/api/cancel", {"request_ids": [id[:8]]})[1] == [id]
    assert served.call("GET", f"/api/get?request_id={id}")[1]["status"] == "CANCELLED"


def test_openapi_document_has_every_route_and_resolves(served: Served) -> None:
    status, told, _ = served.call("GET", "/openapi.json")
    assert status == 200
    for path in ROUTES:
        assert path in told["paths"], path
    seen = []

    def follow(value: object) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                name = value["$ref"].removeprefix("#/components/schemas/")
                seen.append(name)
                assert name in told["components"]["schemas"]
            for inner in value.values():
                follow(inner)
        elif isinstance(value, list):
            for inner in value:
                follow(inner)

    follow(told)
    assert {"LaunchBody", "StatusResponse", "ErrorAnswer"} <= set(seen)
    ids = [each["operationId"] for methods in told["paths"].values() for each in methods.values()]
    assert len(ids) == len(set(ids))


def test_old_client_is_told_to_upgrade(served: Served) -> None:
    status, told, _ = served.call("POST", "/status", {}, X_SkyPilot_API_Version="0")
    assert status == 400
    assert told["error"]["type"] == "APIVersionMismatchError"
    assert "Upgrade the client" in told["error"]["message"]


def test_local_user_may_be_named_and_is_checked(served: Served) -> None:
    assert served.call("GET", "/api/health", X_Skypilot_User="alice")[1]["user"]["name"] == "alice"
    assert served.call("GET", "/api/health", X_Skypilot_User="a b;c")[0] == 400


def test_cluster_that_ended_costs_what_it_cost(served: Served) -> None:
    gone = replace(cluster("gone"), phase=Phase.TERMINATED)
    served.plane.known["gone"] = gone
    told = {each["name"]: each for each in served.call("POST", "/cost_report", {"days": 3})[1]["result"]}
    assert told["gone"]["status"] is None
