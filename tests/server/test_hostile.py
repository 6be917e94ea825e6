"""Malformed, oversized, slow and misplaced input: each has a typed answer, and the server goes on."""

import asyncio
import contextlib
import hashlib
import socket
import time

import pytest
from serving import Served, eventually, read_all

from sky.server import asgi, listening


def post(path: bytes, body: bytes, *more: bytes) -> bytes:
    head = b"POST " + path + b" HTTP/1.1\r\nhost: sky\r\nconnection: close\r\ncontent-length: %d\r\n" % len(body)
    return head + b"".join(line + b"\r\n" for line in more) + b"\r\n" + body


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not JSON"),
        (b"[]", "Expected `object`"),
        (b'{"cluster_names": "one"}', "cluster_names"),
        (b'{"cluster_names": [1]}', "cluster_names"),
        (b'{"surprise": 1}', "surprise"),
        (b"\xff\xfe", "not"),
        (b"[" * 100_000, "not"),
        (b'{"refresh": null}', "refresh"),
    ],
)
def test_bad_body_is_refused_with_the_place(served: Served, body: bytes, says: str) -> None:
    status, told, _ = served.call("POST", "/status", raw=body)
    assert status == 400
    assert told["error"]["type"] == "ClientError"
    assert says in told["error"]["message"]


def test_unknown_call_and_wrong_method(served: Served) -> None:
    assert served.call("POST", "/nope")[0] == 404
    status, told, _ = served.call("GET", "/launch")
    assert status == 405
    assert "POST" in told["error"]["message"]
    assert served.call("PUT", "/api/uploads/a/b", raw=b"x")[0] == 404


def test_body_beyond_the_bound(served: Served) -> None:
    answer = served.raw(post(b"/status", b" " * (asgi.MAX_BODY + 1)))
    assert b"413" in answer.split(b"\r\n")[0]
    assert served.call("GET", "/health")[0] == 200


def test_head_beyond_the_bound(served: Served) -> None:
    answer = served.raw(b"GET /health HTTP/1.1\r\nhost: sky\r\nx: " + b"a" * 600_000 + b"\r\n\r\n")
    assert b" 400 " in answer.split(b"\r\n")[0] + b" "
    assert served.call("GET", "/health")[0] == 200


def test_not_http(served: Served) -> None:
    assert b"400" in served.raw(b"\x16\x03\x01 hello\r\n\r\n")
    assert served.call("GET", "/health")[0] == 200


def test_head_that_never_ends_is_hung_up_on(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "HEAD_S", 0.2)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(str(served.settings.socket))
        sock.sendall(b"GET /health HTT")
        begun = time.monotonic()
        assert read_all(sock) == b""
        assert time.monotonic() - begun < 5


def test_second_head_of_a_connection_is_bounded_too(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "HEAD_S", 0.2)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(str(served.settings.socket))
        sock.sendall(b"GET /health HTTP/1.1\r\nhost: sky\r\n\r\n")
        told = b""
        while b"healthy" not in told:
            told += sock.recv(65536)
        sock.sendall(b"GET /he")
        assert read_all(sock) == b""


def test_body_that_stops_arriving(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "BODY_PAUSE_S", 0.2)
    answer = served.raw(b"POST /status HTTP/1.1\r\nhost: sky\r\ncontent-length: 100\r\n\r\n{")
    assert b"408" in answer.split(b"\r\n")[0]


@pytest.mark.parametrize("id", ["short", "a" * 200, "../../../../etc/passwd", "with space in it"])
def test_request_id_of_the_client_is_checked(served: Served, id: str) -> None:
    status, told, _ = served.call("POST", "/launch", {"task": {}}, X_Skypilot_Request_ID=id)
    assert status == 400
    assert "request id" in told["error"]["message"]
    assert served.plane.submissions == 0


@pytest.mark.parametrize(
    "query", ["", "request_id=", "request_id=x&timeout=-1", "request_id=x&timeout=nan", "request_id=x&timeout=soon"]
)
def test_bad_queries(served: Served, query: str) -> None:
    assert served.call("GET", f"/api/get?{query}")[0] == 400


@pytest.mark.parametrize("query", ["offset=-1", "offset=x", "follow=perhaps", "tail=1e9"])
def test_bad_stream_queries(served: Served, query: str) -> None:
    id = served.call("POST", "/launch", {"task": {}})[1]["request_id"]
    status, told, _ = served.call("GET", f"/api/stream?request_id={id}&{query}")
    assert status == 400
    assert query.partition("=")[0] in told["error"]["message"]


@pytest.mark.parametrize("name", ["..%2f..%2fetc", "..", "A" * 64, "0" * 63, "0" * 64 + "%00"])
def test_upload_under_a_name_that_is_no_hash(served: Served, name: str) -> None:
    status, told, _ = served.call("PUT", f"/api/uploads/{name}", raw=b"data")
    assert status in (400, 404)
    assert told["error"]["type"] == "ClientError"


def test_upload_that_is_not_what_it_says_leaves_nothing(served: Served) -> None:
    name = hashlib.sha256(b"other").hexdigest()
    status, told, _ = served.call("PUT", f"/api/uploads/{name}", raw=b"data")
    assert status == 400
    assert "does not have the hash" in told["error"]["message"]
    blobs = served.settings.state_dir / "blobs"
    assert [path for path in blobs.rglob("*") if path.is_file()] == []


def test_upload_round_trip(served: Served) -> None:
    data = b"x" * 300_000
    name = hashlib.sha256(data).hexdigest()
    assert served.call("POST", "/api/uploads/missing", {"hashes": [name, name]})[1] == {"missing": [name]}
    assert served.call("PUT", f"/api/uploads/{name}", raw=data)[0] == 200
    assert served.call("POST", "/api/uploads/missing", {"hashes": [name]})[1] == {"missing": []}
    assert (served.settings.state_dir / "blobs" / name[:2] / name).read_bytes() == data


def test_socket_is_the_owners_alone(served: Served) -> None:
    path = served.settings.socket
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_head_beyond_the_bound_in_a_single_read(served: Served) -> None:
    for size, status in ((30_000, b"200"), (40_000, b"431"), (200_000, b"431")):
        answer = served.raw(
            b"GET /health HTTP/1.1\r\nhost: sky\r\nconnection: close\r\nx: " + b"a" * size + b"\r\n\r\n"
        )
        assert status in answer.split(b"\r\n")[0], (size, answer[:100])


def test_reader_that_takes_nothing_of_a_long_answer_is_hung_up_on(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "READER_S", 0.2)
    served.plane.log = b"x" * 30_000_000
    body = b'{"cluster_name": "one", "job_id": 1, "follow": false}'
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(str(served.settings.socket))
        sock.sendall(post(b"/logs", body))
        while len(sock.recv(1 << 16, socket.MSG_PEEK)) < 4096:
            time.sleep(0.01)  # it is at the body, which does not fit into what the kernel holds
        eventually(lambda: not served.do(_stuck))
        took = 0
        with contextlib.suppress(ConnectionError):
            while piece := sock.recv(1 << 20):
                took += len(piece)
    assert 0 < took < 30_000_000


def _stuck() -> bool:
    return any("_stream" in repr(task.get_coro()) or "pump" in repr(task.get_coro()) for task in asyncio.all_tasks())
