"""Streams: talk of requests and logs of jobs, resumed by offset, ended in good order."""

import base64
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from serving import Served, eventually

from sky.sdk.http1 import Address, Connection, ConnectionLost
from sky.server import api


def frames(served: Served, method: str, path: str, body: object = None) -> Iterator[dict[str, Any]]:
    connection = Connection(Address("unix", path=str(served.settings.socket)), 20)
    try:
        data = b"" if body is None else json.dumps(body).encode()
        response = connection.exchange(method, path, {}, data)
        assert response.status == 200
        for line in response.lines():
            yield json.loads(line)
    finally:
        connection.close()


def text(found: list[dict[str, Any]]) -> str:
    return "".join(frame.get("t", "") for frame in found)


def test_talk_is_followed_to_the_end(served: Served) -> None:
    served.plane.hold.add("launch")
    id = served.call("POST", "/launch", {"task": {}})[1]["request_id"]
    found: list[dict[str, Any]] = []
    reader = threading.Thread(target=lambda: found.extend(frames(served, "GET", f"/api/stream?request_id={id}")))
    reader.start()
    served.do(lambda: served.plane.say(id, "half way\n"))
    served.do(lambda: served.plane.end(id))
    reader.join(60)
    assert text(found) == "launch begins\nhalf way\nlaunch is over\n"
    assert found[-1] == {"end": "SUCCEEDED"}


def test_talk_resumes_at_an_offset_and_can_be_cut_to_its_tail(served: Served) -> None:
    id = served.call("POST", "/launch", {"task": {}})[1]["request_id"]
    whole = list(frames(served, "GET", f"/api/stream?request_id={id}"))
    assert text(whole) == "launch begins\nlaunch is over\n"
    rest = list(frames(served, "GET", f"/api/stream?request_id={id}&offset=7"))
    assert text(rest) == "begins\nlaunch is over\n"
    assert rest[0]["o"] == whole[-2]["o"]
    # No file has as many bytes, and file systems refuse to look for them.
    assert list(frames(served, "GET", f"/api/stream?request_id={id}&offset={10**17}")) == [whole[-1]]
    assert text(list(frames(served, "GET", f"/api/stream?request_id={id}&tail=1"))) == "launch is over\n"
    assert text(list(frames(served, "GET", f"/api/stream?request_id={id}&tail=9"))) == text(whole)


def test_talk_without_follow_ends_with_the_status_so_far(served: Served) -> None:
    served.plane.hold.add("launch")
    id = served.call("POST", "/launch", {"task": {}})[1]["request_id"]
    found = list(frames(served, "GET", f"/api/stream?request_id={id}&follow=false"))
    assert found[-1] == {"end": "PENDING"}


def test_log_carries_text_bytes_offsets_and_the_exit_code(served: Served) -> None:
    served.plane.log = "é\n".encode() * 50_000 + b"\xff\x00junk"
    found = list(frames(served, "POST", "/logs", {"cluster_name": "one", "job_id": 3}))
    assert found[0] == {"job": 3}
    data = b"".join(f["t"].encode() if "t" in f else base64.b64decode(f.get("b", "")) for f in found)
    assert data == served.plane.log
    assert found[-1] == {"end": "FAILED", "code": 100}
    assert found[-2]["o"] == len(data)
    cut = found[1]["o"]
    rest = list(frames(served, "POST", "/logs", {"cluster_name": "one", "job_id": 3, "offset": cut}))
    again = b"".join(f["t"].encode() if "t" in f else base64.b64decode(f.get("b", "")) for f in rest)
    assert again == data[cut:]


@pytest.mark.parametrize(("job_id", "code"), [(1, 0), (3, 100), (2, 101), (77, 102), (None, 100)])
def test_exit_codes(served: Served, job_id: int | None, code: int) -> None:
    found = list(frames(served, "POST", "/logs", {"cluster_name": "one", "job_id": job_id}))
    assert found[-1]["code"] == code


def test_failure_in_the_middle_is_the_last_line(served: Served) -> None:
    found = list(frames(served, "POST", "/logs", {"cluster_name": "nope", "job_id": 1}))
    assert found[-1]["error"]["type"] == "ClusterDoesNotExist"


@pytest.mark.parametrize("body", [{"which": "x"}, {"tail": -1}, {"offset": -5}])
def test_bad_log_arguments(served: Served, body: dict[str, Any]) -> None:
    assert served.call("POST", "/logs", {"cluster_name": "one", **body})[0] == 400


def test_silence_is_broken_by_signs_of_life(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "HEARTBEAT_S", 0.05)
    served.plane.log_ended = False
    stream = frames(served, "POST", "/logs", {"cluster_name": "one", "job_id": 2})
    seen = [next(stream) for _ in range(4)]
    stream.close()  # type: ignore[attr-defined]
    assert {"h": 1} in seen


def test_client_that_hangs_up_leaves_no_stream_behind(served: Served) -> None:
    served.plane.log_ended = False
    stream = frames(served, "POST", "/logs", {"cluster_name": "one", "job_id": 2})
    next(stream)
    next(stream)
    assert served.do(lambda: len(served.plane.signals._watches["log"])) == 1
    stream.close()  # type: ignore[attr-defined]
    eventually(lambda: served.do(lambda: "log" not in served.plane.signals._watches))


@pytest.mark.parametrize("on_command", [False, True])
def test_end_of_the_server_ends_streams_in_good_order(served: Served, on_command: bool) -> None:
    served.plane.log_ended = False
    stream = frames(served, "POST", "/logs", {"cluster_name": "one", "job_id": 2})
    assert next(stream) == {"job": 2}
    next(stream)
    if on_command:
        assert served.call("POST", "/api/shutdown", {})[0] == 200
    else:
        threading.Thread(target=served.stop).start()
    last = list(stream)[-1]
    if on_command:
        assert last["error"]["type"] == "ServerTemporarilyUnavailableError"
    else:
        assert last == {"again": True}


def test_shutdown_if_idle_is_refused_while_busy(served: Served) -> None:
    served.plane.hold.add("launch")
    served.call("POST", "/launch", {"task": {}})
    status, told, _ = served.call("POST", "/api/shutdown", {"if_idle": True})
    assert status == 503
    assert "busy" in told["error"]["message"]
    assert served.call("GET", "/health")[0] == 200


def test_wait_ends_with_words_when_the_owner_stops_the_server(served: Served) -> None:
    served.plane.hold.add("launch")
    id = served.call("POST", "/launch", {"task": {}})[1]["request_id"]
    found: list[Any] = []
    waiter = threading.Thread(target=lambda: found.append(served.call("GET", f"/api/get?request_id={id}&timeout=50")))
    waiter.start()
    eventually(lambda: served.do(lambda: f"request:{id}" in served.plane.signals._watches))
    served.call("POST", "/api/shutdown", {})
    waiter.join(60)
    status, told, _ = found[0]
    assert status == 503
    assert told["error"]["type"] == "ServerTemporarilyUnavailableError"


def test_wait_lets_go_when_the_server_ends(served: Served) -> None:
    served.plane.hold.add("launch")
    id = served.call("POST", "/launch", {"task": {}})[1]["request_id"]
    found: list[Any] = []

    def wait() -> None:
        try:
            found.append(served.call("GET", f"/api/get?request_id={id}&timeout=50")[1]["status"])
        except ConnectionLost:
            found.append("lost")

    waiter = threading.Thread(target=wait)
    waiter.start()
    eventually(lambda: served.do(lambda: f"request:{id}" in served.plane.signals._watches))
    served.stop()
    waiter.join(60)
    assert found == ["PENDING"]
    assert served.plane.stopped
