"""What a program sees of the SDK: ids, values, errors as themselves, streams, threads."""

import io
import json
import os
import pickle
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from serving import Served, eventually

from sky.cli import exit_codes, main
from sky.core import errors
from sky.core.model.resources import Resources
from sky.core.model.statuses import ClusterStatus, JobStatus
from sky.sdk import clusters, infra, plans, requests, server, settings, transport
from sky.sdk.http1 import Address, Connection
from sky.sdk.ids import RequestId
from sky.sdk.records import ClusterHandle, PlacementRecord, StatusResponse
from sky.sdk.tasks import Task
from sky.sdk.transport import Endpoint, parse_endpoint, using_endpoint
from sky.server.settings import Settings


def test_status_records_are_read_by_attribute_and_key(served: Served) -> None:
    found = requests.get(clusters.status())
    one = found[0]
    assert isinstance(one, StatusResponse)
    assert one.name == one["name"] == "one"
    assert one.status is ClusterStatus.UP
    assert one.get("nope", 5) == 5
    assert "handle" in one.keys()  # noqa: SIM118 - the method is what is tested
    assert dict(one)["nodes"] == 1
    assert one.handle.head_ip == "127.0.0.2"
    assert one.handle.launched_resources.instance_type == "this-machine"
    assert json.loads(json.dumps(one))["status"] == "UP"
    with pytest.raises(AttributeError, match="no field 'nope'"):
        _ = one.nope
    one.note = "x"
    assert one["note"] == "x"


def test_names_may_be_one_or_many(served: Served) -> None:
    assert [each.name for each in requests.get(clusters.status("two"))] == ["two"]
    assert [each.name for each in requests.get(clusters.status(["one", "two"], _summary_response=True))] == [
        "one",
        "two",
    ]


def test_request_id_is_a_string_that_outlives_the_process(served: Served) -> None:
    id = clusters.status()
    assert isinstance(id, str)
    assert isinstance(id, RequestId)
    plain = pickle.loads(pickle.dumps(id))
    assert type(plain) is str
    assert plain == id
    assert [each.name for each in requests.get(plain)] == ["one", "two"]
    assert [each.name for each in requests.get(plain[:13])] == ["one", "two"]


def test_what_a_task_must_not_get_travels_with_it(served: Served) -> None:
    task = Task(run="true", blocked_resources=[Resources(infra="aws", use_spot=True)])
    id = clusters.launch(task, "one")
    requests.get(id)
    (told,) = served.plane.rows[str(id)].body["blocked_resources"]
    assert (told["infra"], told["use_spot"]) == ("aws", True)


def test_launch_gives_job_and_handle(served: Served) -> None:
    id = clusters.launch({"run": "true"}, "one", idle_minutes_to_autostop=5, _command="sky launch")
    job_id, handle = requests.get(id)
    assert job_id == 7
    assert isinstance(handle, ClusterHandle)
    assert handle.get_cluster_name() == "one"
    body = served.plane.rows[str(id)].body
    assert body["idle_minutes_to_autostop"] == 5
    assert body["optimize_target"] == "COST"
    assert requests.get(clusters.launch({"run": "true"}))[1] is None


def test_exec_wants_a_cluster_and_one_task(served: Served) -> None:
    with pytest.raises(ValueError, match="cluster_name"):
        clusters.exec({"run": "x"})
    with pytest.raises(ValueError, match="one task"):
        clusters.launch([{"run": "x"}, {"run": "y"}])
    assert requests.get(clusters.exec({"run": "x"}, "one"))[0] == 7


def test_keywords_that_nobody_reads_are_refused(served: Served) -> None:
    with pytest.raises(TypeError, match="'cluster_name'"):
        clusters.launch({"run": "true"}, cluster_nam="one")
    with pytest.raises(TypeError, match="stream_and_get"):
        clusters.launch({"run": "true"}, stream_logs=True)
    with pytest.raises(TypeError, match="tail_logs"):
        clusters.exec({"run": "true"}, "one", detach_run=True)
    with pytest.raises(errors.NotSupportedError, match="purge"):
        clusters.stop("one", purge=True)
    assert served.plane.rows == {}
    clusters.launch({"run": "true"}, "one", _disable_controller_check=True)


def test_a_bad_task_leaves_no_request_behind(served: Served) -> None:
    with pytest.raises(errors.InvalidSkyPilotConfigError, match="did you mean 'run'"):
        clusters.launch({"rum": "true"}, "one")
    assert served.plane.rows == {}


@pytest.mark.parametrize(("asked", "word"), [(True, "FORCE"), (False, "NONE"), (None, "NONE"), ("auto", "AUTO")])
def test_refresh_is_a_boolean_or_a_word(served: Served, asked: object, word: str) -> None:
    told: list[bool] = []
    seen = served.plane.clusters

    async def clusters_of(names: Any, *, refresh: bool, managed: bool) -> Any:
        told.append(refresh)
        return await seen(names, refresh=refresh, managed=managed)

    served.plane.clusters = clusters_of  # type: ignore[method-assign]
    requests.get(clusters.status(refresh=asked))
    assert told == [word != "NONE"]


def test_mutations_and_their_values(served: Served) -> None:
    assert requests.get(clusters.stop("one")) is None
    assert requests.get(clusters.down("one", purge=True)) is None
    assert requests.get(clusters.autostop("one", 5, down=True)) is None
    assert requests.get(clusters.cancel("one", job_ids=[1])) is None
    assert requests.get(clusters.start("one")).cluster_name == "one"
    by_name = {row.name: row.body for row in served.plane.rows.values()}
    assert by_name["down"]["purge"] is True
    assert by_name["autostop"] == {
        "cluster_name": "one",
        "idle_minutes": 5,
        "wait_for": None,
        "down": True,
        "hook": None,
        "hook_timeout": None,
    }


def test_errors_arrive_as_themselves(served: Served) -> None:
    id = clusters.down("nope")
    with pytest.raises(errors.ClusterDoesNotExist, match="'nope'") as caught:
        requests.get(id)
    assert isinstance(caught.value, ValueError)
    with pytest.raises(errors.ClusterDoesNotExist):
        requests.get(str(id))
    read = clusters.queue("nope")
    with pytest.raises(errors.ClusterDoesNotExist):
        requests.get(read)
    with pytest.raises(errors.ClientError, match="idle_minutes"):
        clusters.autostop("one", "soon")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="requests begin with"):
        requests.get("nobody-knows")


def test_cancelled_request_says_so(served: Served) -> None:
    served.plane.hold.add("launch")
    id = clusters.launch({"run": "true"})
    assert requests.get(requests.api_cancel([id])) == [id]
    with pytest.raises(errors.RequestCancelled, match=str(id)):
        requests.get(id)


def test_queue_and_job_status_have_real_enums(served: Served) -> None:
    assert [job.status for job in requests.get(clusters.queue("one"))] == [
        JobStatus.SUCCEEDED,
        JobStatus.RUNNING,
        JobStatus.FAILED,
    ]
    assert requests.get(clusters.job_status("one", [1, 42])) == {1: JobStatus.SUCCEEDED, 42: None}


def test_infra(served: Served) -> None:
    found = requests.get(infra.check())["default"]
    assert found["local"] == ["compute"]
    assert found["local"].enabled
    assert found["aws"] == []
    assert found["aws"].reason == "no credentials"
    assert requests.get(infra.enabled_clouds()) == ["local"]
    assert requests.get(infra.list_accelerators(name_filter="H100"))["H100"][0].spot_price == 0.5
    assert requests.get(infra.list_accelerator_counts())["A100"] == [2.0]


def test_other_reads(served: Served) -> None:
    assert requests.get(clusters.endpoints("one", 8080)) == {8080: "http://127.0.0.2:8080"}
    assert requests.get(clusters.cost_report(days=1))[0].status is ClusterStatus.UP
    assert requests.get(clusters.cluster_events("one"))[0].text == "the agent answers"
    plan = requests.get(plans.optimize({"run": "x"}))[0]
    assert plan.placements[0].infra == "local"
    plans.validate({"run": "x"})
    with pytest.raises(errors.InvalidSkyPilotConfigError, match="num_nodes"):
        plans.validate({"run": "x", "num_nodes": 0})


def test_api_status(served: Served) -> None:
    id = clusters.launch({"run": "x"}, _command="sky launch x")
    record = requests.api_status(id[:8])[0]
    assert (record.request_id, record.status, record.entrypoint) == (id, "SUCCEEDED", "sky launch x")
    assert json.loads(record.request_body) == {"down": False, "dryrun": False}
    assert requests.api_status() == []
    assert requests.api_status(all_status=True, limit=1, fields=["name"]) == [{"name": "sky.launch"}]


def test_api_info(served: Served) -> None:
    info = server.api_info()
    assert info.status == "healthy"
    assert info.user.name
    assert info.endpoint.startswith("unix://")


def test_tail_logs_writes_and_returns_the_code(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert clusters.tail_logs("one", 1, False) == 0
    assert capsys.readouterr().out == "hello\nworld\n"
    out = io.StringIO()
    assert clusters.tail_logs("one", 3, output_stream=out) == 100
    assert out.getvalue() == "hello\nworld\n"
    assert clusters.tail_logs("one", 99) == 102
    assert clusters.tail_logs("one", 2) == 101
    assert list(clusters.tail_logs("one", 1, preload_content=False)) == ["hello\n", "world\n"]
    with pytest.raises(errors.ClusterDoesNotExist):
        clusters.tail_logs("nope", 1)


def test_broken_text_is_replaced_not_fatal(served: Served) -> None:
    served.plane.log = b"caf\xc3\xa9 \xff\n"
    out = io.StringIO()
    clusters.tail_logs("one", 1, output_stream=out)
    assert out.getvalue() == "café \ufffd\n"


def test_stream_and_get(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    id = clusters.launch({"run": "x"}, "one")
    assert requests.stream_and_get(id)[0] == 7
    assert "launch is over" in capsys.readouterr().out
    out = io.StringIO()
    assert requests.stream_and_get(output_stream=out, tail=1)[0] == 7
    assert out.getvalue() == "launch is over\n"
    assert requests.stream_and_get(clusters.status())[0].name == "one"
    served.plane.hold.add("launch")
    assert requests.stream_and_get(clusters.launch({"run": "x"}), follow=False) is None


def test_provision_logs(served: Served) -> None:
    id = clusters.launch({"run": "x"}, "one")
    served.plane.rows["launch-of-one"] = replace(served.plane.rows.pop(str(id)), id="launch-of-one")
    Path(served.plane.progress_file("launch-of-one")).write_text("bringing it up\n")
    out = io.StringIO()
    with pytest.raises(ValueError, match="No launch"):
        clusters.tail_provision_logs("three", output_stream=out)
    assert clusters.tail_provision_logs("one", output_stream=out, follow=False) == 0
    assert out.getvalue() == "bringing it up\n"


def test_the_server_says_how_it_is(served: Served) -> None:
    info = server.api_info()
    assert info.status == info["status"] == "healthy"
    assert info.status.value == "healthy"
    assert json.loads(json.dumps(info))["status"] == "healthy"


def test_download_logs(served: Served) -> None:
    kept = clusters.download_logs("one", [1])
    assert (Path(kept[1]) / "run.log").read_text() == "hello\nworld\n"
    assert (Path(kept["1"]) / "tasks" / "0-head.log").read_text() == "hello\nworld\n"
    assert [each.name for each in Path(kept[1], "tasks").iterdir()] == ["0-head.log"]
    served.plane.jobs_known[1] = replace(served.plane.jobs_known[1], task_config={"num_nodes": 2})
    both = clusters.download_logs("one", ["2", 1])
    assert list(both) == [1, 2]
    assert sorted(each.name for each in Path(both[2], "tasks").iterdir()) == ["0-head.log", "1-worker1.log"]
    assert list(clusters.download_logs("one", None)) == [3]


def test_numbers_are_read_as_numbers_and_as_text(served: Served) -> None:
    ports = requests.get(clusters.endpoints("one"))
    assert ports[8080] == ports["8080"] == ports.get("8080") == "http://127.0.0.2:8080"
    assert ("8080" in ports, "80" in ports, ports.get(80), ports.get("x", 1)) == (True, False, None, 1)
    with pytest.raises(KeyError):
        _ = ports["80"]
    assert json.loads(json.dumps(ports)) == {"8080": "http://127.0.0.2:8080"}


@pytest.mark.parametrize(
    "call",
    [
        lambda: clusters.tail_hook_logs("one"),
        server.dashboard,
        lambda: server.api_start(metrics=True),
        lambda: requests.stream_and_get(log_path="/x"),
    ],
)
def test_what_is_not_there_yet_says_so(served: Served, call: Any) -> None:
    with pytest.raises(errors.NotSupportedError, match="not supported yet"):
        call()


def test_log_goes_on_over_a_restart_of_the_server(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Served(Settings(state))
    first.plane.log, first.plane.log_ended = b"one\n", False
    first.start()
    out = io.StringIO()
    codes: list[int] = []

    def follow() -> None:
        with using_endpoint(Endpoint(Address("unix", path=str(first.settings.socket)))):
            codes.append(clusters.tail_logs("one", 3, output_stream=out))

    reader = threading.Thread(target=follow)
    reader.start()
    eventually(lambda: out.getvalue() == "one\n")
    first.stop()
    second = Served(Settings(state))
    second.plane.log = b"one\ntwo\n"
    second.start()
    reader.join(60)
    second.stop()
    assert out.getvalue() == "one\ntwo\n"
    assert codes == [100]


def test_many_threads_and_two_servers_do_not_mix(state: Path) -> None:
    other = state.parent / "other"
    other.mkdir(mode=0o700)
    servers = [Served(Settings(state)).start(), Served(Settings(other)).start()]
    servers[1].do(lambda: servers[1].plane.known.pop("one"))
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            served = servers[number % 2]
            with using_endpoint(Endpoint(Address("unix", path=str(served.settings.socket)))):
                for _ in range(10):
                    names = [each.name for each in requests.get(clusters.status())]
                    if names != (["two"] if number % 2 else ["one", "two"]):
                        wrong.append(names)
                    if requests.get(clusters.launch({"run": str(number)}, "two"))[0] != 7:
                        wrong.append("launch")
        except Exception as failed:
            wrong.append(failed)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for served in servers:
        served.stop()
    assert wrong == []
    assert [served.plane.submissions for served in servers] == [160, 160]


def test_connection_that_went_stale_is_replaced(served: Served) -> None:
    requests.get(clusters.status())
    idle = transport._idle.by_key[transport.current_endpoint().key]
    idle._sock.shutdown(2)
    assert len(requests.get(clusters.status())) == 2


def test_child_process_does_not_share_connections(served: Served) -> None:
    requests.get(clusters.status())
    mine = transport._idle.by_key[transport.current_endpoint().key]
    assert transport._Idle().take(("x", None)) is None
    transport._idle.pid = -1
    assert len(requests.get(clusters.status())) == 2
    assert mine._file.closed
    assert transport._idle.pid == os.getpid()


def test_nobody_there_is_said_with_the_address(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "PAUSES", (0.0, 0.0))
    monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(errors.ApiServerConnectionError, match=r"http://127\.0\.0\.1:1"):
        clusters.status()


def test_endpoint_comes_from_the_file_unless_the_environment_names_one(
    state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = Path.home() / ".sky" / "config.yaml"
    config.parent.mkdir()
    config.write_text("api_server:\n  endpoint: http://from-file:1\n  service_account_token: t0ken\n")
    monkeypatch.chdir(tmp_path)
    assert str(transport.current_endpoint()) == "http://from-file:1"
    assert transport.current_endpoint().token == "t0ken"
    monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", "https://from-env")
    assert str(transport.current_endpoint()) == "https://from-env:443"
    with using_endpoint("unix:///from/call"):
        assert str(transport.current_endpoint()) == "unix:///from/call"


@pytest.mark.parametrize("bad", ["", "ftp://x", "localhost:46580", "http://", "unix://"])
def test_bad_endpoints(bad: str) -> None:
    with pytest.raises(ValueError, match="Not an API server endpoint"):
        parse_endpoint(bad)


def test_what_is_no_api_server_is_named(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sky.server.asgi._JSON", [(b"content-type", b"text/html")])
    with pytest.raises(errors.ApiServerConnectionError, match="not an API server"):
        clusters.status()


def test_chunks_and_broken_answers() -> None:
    import socket

    def answered(data: bytes) -> Any:
        ours, theirs = socket.socketpair()
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        made = Connection.__new__(Connection)
        made.address, made._sock, made._file, made.used = Address("unix", path="x"), ours, ours.makefile("rb"), 0
        try:
            return made._head().read()
        finally:
            made.close()
            theirs.close()

    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    assert answered(head + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n") == b"abcde"
    assert answered(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokay") == b"ok"
    assert answered(b"HTTP/1.1 200 OK\r\n\r\nto the end") == b"to the end"
    for broken in (
        head + b"3\r\nab",
        head + b"zz\r\n",
        head,
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1 + b"x" * 70_000,
    ):
        with pytest.raises(OSError, match=r"."):
            answered(broken)


def test_a_placement_is_resources_that_know_their_price(served: Served) -> None:
    plan = requests.get(plans.optimize({"run": "x"}))[0]
    told = {**plan.placements[0], "cloud": "aws", "region": "us-east-1", "accelerators": "A100:8", "use_spot": True}
    told |= {"instance_type": "p4d.24xlarge", "num_nodes": 3, "reserved_nodes": 1, "price_hourly": 20.0}
    asked = PlacementRecord(told).resources()
    assert (str(asked.infra), asked.instance_type, asked.use_spot) == ("aws/us-east-1", "p4d.24xlarge", True)
    assert asked.accelerators == {"A100": 8}
    assert asked.get_cost(1800) == 5.0


def test_who_calls_again_with_an_id_of_their_own_has_the_same_request(served: Served) -> None:
    task = Task(run="true")
    ids = [clusters.launch(task, "one", request_id="my-flow-run-7") for _ in range(2)]
    assert ids == ["my-flow-run-7"] * 2
    assert served.plane.submissions == 1
    with pytest.raises(errors.RequestAlreadyExistsError, match="my-flow-run-7"):
        clusters.exec(task, "one", request_id="my-flow-run-7")
    for bad in ("short", "x" * 129, "two words", "a-line\r\nX-Evil: 1", "ünicode-id"):
        with pytest.raises(ValueError, match="Not a request id"):
            clusters.launch(task, "one", request_id=bad)
    assert served.plane.submissions == 1


def test_ctrl_c_while_a_change_is_sent_names_what_may_go_on(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange = transport._exchange

    def interrupted(endpoint: Any, method: str, target: str, *rest: Any) -> Any:
        answer = exchange(endpoint, method, target, *rest)
        if target == "/stop":
            raise KeyboardInterrupt
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(transport, "_exchange", interrupted)
        assert main(["stop", "-y", "one"]) == exit_codes.INTERRUPTED
    told = capsys.readouterr().err
    assert told.startswith("\nInterrupted.\nIf it reached the server, it goes on. Follow: sky api logs ")
    id = told.rpartition("Cancel: sky api cancel ")[2].strip()
    assert [each.name for each in requests.api_status([id])] == ["sky.stop"]


def test_an_endpoint_that_is_named_gets_the_token_of_its_own_login_only(state: Path) -> None:
    settings.keep_login({"endpoint": "https://mine:443", "token": "t0ken"})
    for where, token in (
        ("https://mine", "t0ken"),
        ("https://mine:444", None),
        ("http://mine:443", None),
        ("https://:other@mine", "other"),
    ):
        with using_endpoint(where) as endpoint:
            assert endpoint.token == token, where
    with using_endpoint("https://mine", "given") as endpoint:
        assert endpoint.token == "given"
    with using_endpoint(parse_endpoint("https://mine")) as endpoint:
        assert endpoint.token is None
