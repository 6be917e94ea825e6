"""The web as price sources see it: what is believed, what is cut off, and what is never said aloud."""

import gzip
import http.client
import shutil
import ssl
import subprocess
import threading
import zlib

import pytest

from sky.core.errors import CredentialsRejected, ProviderDown, RequestInvalid, Throttled
from sky.core.model.catalog import Source
from sky.providers.web import PublicWeb, shown


def lines(web, url, **asked):
    with web.get(url, **asked) as reply:
        return list(reply.lines())


def test_lines_come_without_their_ends_and_without_a_mark_of_order(world, web):
    world.text("/list", "\ufeffone\r\ntwo\n\nthree é")
    assert lines(web, f"{world.url}/list") == ["one", "two", "", "three é"]


def test_a_character_cut_between_two_pieces_arrives_whole(world, web):
    text = "é" * 200_000
    world.text("/list", f"x{text}\nend")
    assert lines(web, f"{world.url}/list") == [f"x{text}", "end"]


def test_gzip_is_undone_also_of_several_members(world, web):
    body = gzip.compress(b"one\n") + gzip.compress(b"two\n" * 100_000)
    world.answers["/list"] = (200, {"Content-Encoding": "gzip"}, body)
    found = lines(web, f"{world.url}/list")
    assert (found[0], len(found)) == ("one", 100_001)


def test_chunks_are_put_together(world, web):
    def answer(handler, _):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"4\r\none\n\r\n3\r\ntwo\r\n0\r\n\r\n")

    world.answers["/list"] = answer
    assert lines(web, f"{world.url}/list") == ["one", "two"]


@pytest.mark.parametrize("end", [b"", b"ffff\r\nhalf", b"zz\r\n"])
def test_chunks_that_end_early_are_no_document(world, web, end):
    def answer(handler, _):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"4\r\none\n\r\n" + end)

    world.answers["/list"] = answer
    with pytest.raises(ProviderDown, match=r"middle of the document|Error"):
        lines(web, f"{world.url}/list")


@pytest.mark.parametrize("zipped", [False, True])
def test_a_connection_cut_in_the_middle_is_no_document(world, web, zipped):
    world.text("/list", "row\n" * 50_000)
    if zipped:
        world.zipped("/list")
    world.cut("/list")
    with pytest.raises(ProviderDown, match="in the middle of the document"):
        lines(web, f"{world.url}/list")


def test_gzip_that_ends_early_is_no_document_even_where_the_length_is_right(world, web):
    body = gzip.compress(b"row\n" * 50_000)
    world.answers["/list"] = (200, {"Content-Encoding": "gzip"}, body[: len(body) // 2])
    with pytest.raises(ProviderDown, match="in the middle of the document"):
        lines(web, f"{world.url}/list")


def test_gzip_that_is_none_is_refused(world, web):
    world.answers["/list"] = (200, {"Content-Encoding": "gzip"}, b"plain")
    with pytest.raises(ProviderDown, match="error"):
        lines(web, f"{world.url}/list")


def test_an_encoding_that_was_not_asked_for_is_refused(world, web):
    world.answers["/list"] = (200, {"Content-Encoding": "br"}, b"x")
    with pytest.raises(ProviderDown, match="encoding"):
        lines(web, f"{world.url}/list")


def test_a_small_bomb_is_stopped_at_the_bound(world, web):
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(b"\0" * 2**20) for _ in range(200)) + packer.flush()
    assert len(bomb) < 2**19
    world.answers["/bomb"] = (200, {"Content-Encoding": "gzip"}, bomb)
    with web.get(f"{world.url}/bomb", at_most=2**20) as reply, pytest.raises(ProviderDown, match="at most"):
        reply.json()


def test_a_document_as_long_as_the_bound_is_read_and_one_longer_is_not(world, web):
    world.text("/list", "x" * 1000)
    assert lines(web, f"{world.url}/list", at_most=1000) == ["x" * 1000]
    with pytest.raises(ProviderDown, match="larger than the 999 bytes"):
        lines(web, f"{world.url}/list", at_most=999)


def test_a_line_without_an_end_is_refused(world, web):
    world.text("/list", "x" * (2**20 + 100_000))
    with pytest.raises(ProviderDown, match="a line of more than"):
        lines(web, f"{world.url}/list")


def test_silence_is_ended_by_the_stall_limit(world):
    world.text("/list", "row\n" * 1000)
    world.stall("/list")
    with pytest.raises(ProviderDown, match=r"nothing arrived for 0\.2 seconds"):
        lines(PublicWeb(timeout_s=20, stall_s=0.2), f"{world.url}/list")


@pytest.mark.parametrize(
    "begin",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"",
    ],
)
def test_a_drip_that_never_stalls_is_ended_by_the_deadline(world, begin):
    def answer(handler, _):
        handler.wfile.write(begin or b"HTTP/1.1 200 OK\r\nX-Drip: ")
        while not world.release.wait(0.02):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    world.answers["/list"] = answer
    with pytest.raises(ProviderDown, match="did not arrive in the time"):
        lines(PublicWeb(timeout_s=0.5, stall_s=10), f"{world.url}/list")


def test_no_timer_outlives_its_document(world, web):
    world.text("/list", "one")
    before = {each for each in threading.enumerate() if isinstance(each, threading.Timer)}
    lines(web, f"{world.url}/list")
    left = {each for each in threading.enumerate() if isinstance(each, threading.Timer)} - before
    for each in left:
        each.join(5)
    assert all(each.finished.is_set() for each in left)


def test_known_documents_are_asked_for_conditionally(world, web):
    def answer(handler, _):
        assert handler.headers["If-None-Match"] == '"7"'
        assert handler.headers["If-Modified-Since"] == "Sun, 01 Nov 2026 00:00:00 GMT"
        handler.send_response(304)
        handler.send_header("ETag", '"7"')
        handler.end_headers()

    world.answers["/list"] = answer
    known = Source("x", f"{world.url}/list", 0.0, 3, '"7"\r\nX-Evil: 1', "Sun, 01 Nov 2026 00:00:00 GMT")
    known = known._replace(etag='"7"')
    with web.get(f"{world.url}/list", known=known) as reply:
        assert (reply.unchanged, reply.etag) == (True, '"7"')


def test_what_a_server_sent_before_cannot_become_a_header_of_its_own(world, web):
    world.text("/list", "x")
    lines(web, f"{world.url}/list", known=Source("x", "", 0.0, 0, '"7"\r\nX-Evil: 1'))
    assert "X-Evil" not in world.asked[0][2]


def test_a_new_document_says_how_to_ask_for_it_next_time(world, web):
    world.text("/list", "x", ETag='"8"', **{"Last-Modified": "Mon, 02 Nov 2026 00:00:00 GMT"})
    with web.get(f"{world.url}/list") as reply:
        assert (reply.unchanged, reply.etag, reply.last_modified) == (False, '"8"', "Mon, 02 Nov 2026 00:00:00 GMT")


@pytest.mark.parametrize(
    ("status", "failure"),
    [(400, RequestInvalid), (401, CredentialsRejected), (403, CredentialsRejected), (404, RequestInvalid),
     (429, Throttled), (500, ProviderDown), (503, ProviderDown), (204, ProviderDown)],
)  # fmt: skip
def test_a_refusal_is_the_failure_that_it_means(world, web, status, failure):
    world.answers["/list"] = (status, {}, b"<h1>because</h1>")
    with pytest.raises(failure) as raised:
        web.get(f"{world.url}/list")
    assert f"{world.url}/list: answered {status}" in str(raised.value)
    assert status == 204 or "because" in str(raised.value)


@pytest.mark.parametrize(
    ("headers", "pause"),
    [({"Retry-After": "7"}, 7), ({}, 60), ({"Retry-After": "soon"}, 60), ({"Retry-After": "nan"}, 3600),
     ({"Retry-After": "-5"}, 0), ({"Retry-After": "99999999"}, 3600)],
)  # fmt: skip
def test_a_throttle_says_how_long_to_wait(world, web, headers, pause):
    world.answers["/list"] = (429, headers, b"")
    with pytest.raises(Throttled) as raised:
        web.get(f"{world.url}/list")
    assert raised.value.retry_after == pause


def test_a_date_to_wait_for_counts_from_the_server_s_own(world, web):
    def answer(handler, _):
        handler.send_response_only(429)
        handler.send_header("Date", "Sun, 22 Nov 2026 10:00:00 GMT")
        handler.send_header("Retry-After", "Sun, 22 Nov 2026 10:01:30 GMT")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    world.answers["/list"] = answer
    with pytest.raises(Throttled) as raised:
        web.get(f"{world.url}/list")
    assert raised.value.retry_after == 90


def test_a_patient_web_waits_as_it_is_told_and_not_for_ever(world):
    pauses = []

    def answer(handler, _):
        if len(pauses) < 2:
            return 429, {"Retry-After": "0" if pauses else "20"}, b""
        return 200, {}, b"here"

    world.answers["/list"] = answer
    assert lines(PublicWeb(patience_s=30, sleep=pauses.append), f"{world.url}/list") == ["here"]
    assert pauses == [20, 1]
    world.answers["/list"] = (429, {"Retry-After": "20"}, b"")
    pauses.clear()
    with pytest.raises(Throttled):
        lines(PublicWeb(patience_s=30, sleep=pauses.append), f"{world.url}/list")
    assert pauses == [20]


def test_redirects_are_followed_and_bounded(world, web):
    world.answers["/old"] = (302, {"Location": "/new"}, b"")
    world.text("/new", "here")
    assert lines(web, f"{world.url}/old") == ["here"]
    world.answers["/new"] = (301, {"Location": "/old"}, b"")
    with pytest.raises(ProviderDown, match="more than 5 redirects"):
        web.get(f"{world.url}/old")


@pytest.mark.parametrize(
    "location",
    ["http://prices.example.com/list", "file:///etc/passwd", "ftp://127.0.0.1/x", "https://[", "http://a:b:c/"],
)
def test_a_redirect_never_leads_out_of_https(world, web, location):
    world.answers["/list"] = (302, {"Location": location}, b"")
    with pytest.raises(RequestInvalid):
        web.get(f"{world.url}/list")


@pytest.mark.parametrize("headers", [{}, {"Location": ""}])
def test_a_redirect_to_nowhere_is_refused(world, web, headers):
    world.answers["/list"] = (302, headers, b"")
    with pytest.raises(ProviderDown, match="where to"):
        web.get(f"{world.url}/list")


def test_a_key_does_not_follow_to_another_origin(world, web):
    other = type(world)()
    try:
        other.text("/there", "x")
        world.answers["/list"] = (307, {"Location": f"{other.url}/there"}, b"")
        lines(web, f"{world.url}/list", headers={"Authorization": "Bearer secret-key-1"})
        assert "Authorization" in world.asked[0][2]
        assert "Authorization" not in other.asked[0][2]
    finally:
        other.close()


def test_a_key_follows_within_the_origin(world, web):
    world.text("/there", "x")
    world.answers["/list"] = (307, {"Location": "/there"}, b"")
    lines(web, f"{world.url}/list", headers={"X-API-KEY": "secret-key-1"})
    assert [headers["X-Api-Key" if "X-Api-Key" in headers else "X-API-KEY"] for _, _, headers, _ in world.asked] == [
        "secret-key-1"
    ] * 2


def test_a_question_with_a_body_is_posted_and_not_sent_elsewhere(world, web):
    world.json("/ask", {"ok": 1})
    with web.get(f"{world.url}/ask", body=b"{}") as reply:
        assert reply.json() == {"ok": 1}
    assert (world.asked[0][0], world.asked[0][3]) == ("POST", b"{}")
    world.answers["/ask"] = (307, {"Location": "/other"}, b"")
    with pytest.raises(ProviderDown, match="redirects a POST"):
        web.get(f"{world.url}/ask", body=b"{}")


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "http://prices.example.com/", "gopher://x/", "", "https://", "https:///x", "http://10.0.0.1/",
     "https://a b/", "https://x/\r\nHost: y", "https://[::1", "https://x:99999/", "data:text/plain,x"],
)  # fmt: skip
def test_only_https_is_asked_and_http_on_this_machine(web, url):
    with pytest.raises(RequestInvalid):
        web.get(url)


def test_nobody_there_is_said_so(web, unused_port):
    with pytest.raises(ProviderDown, match=f"127.0.0.1:{unused_port}/list: ConnectionRefusedError"):
        web.get(f"http://127.0.0.1:{unused_port}/list")


def test_https_is_verified(world, web):
    with pytest.raises(ProviderDown, match="SSL"):
        web.get(world.url.replace("http:", "https:"))


@pytest.fixture
def certified(world, tmp_path):
    """The world over TLS, with a certificate that this test alone believes in: its URL, and the file."""
    made, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", made],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    world.server.socket = context.wrap_socket(world.server.socket, server_side=True)
    return world.url.replace("http:", "https:"), made


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_a_certificate_that_nobody_signed_is_refused(world, web, certified):
    url, _ = certified
    world.text("/list", "secret plans")
    with pytest.raises(ProviderDown, match="CERTIFICATE_VERIFY_FAILED"):
        web.get(f"{url}/list")
    assert world.asked == []


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_over_tls_documents_arrive_redirects_stay_and_drips_end(world, certified):
    url, made = certified
    context = ssl.create_default_context(cafile=made)
    world.text("/list", "one")
    world.answers["/old"] = (302, {"Location": "/list"}, b"")
    assert lines(PublicWeb(context=context), f"{url}/old") == ["one"]
    world.answers["/down"] = (302, {"Location": f"http://127.0.0.1:{world.server.server_port}/list"}, b"")
    with pytest.raises(RequestInvalid, match="from https to http"):
        lines(PublicWeb(context=context), f"{url}/down")

    def drip(handler, _):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n")
        while not world.release.wait(0.02):
            handler.wfile.write(b"x")

    world.answers["/drip"] = drip
    with pytest.raises(ProviderDown, match="did not arrive in the time"):
        lines(PublicWeb(timeout_s=0.5, stall_s=10, context=context), f"{url}/drip")


def test_https_goes_through_the_proxy_of_the_environment(world, web, monkeypatch):
    monkeypatch.setenv("https_proxy", world.url.replace("http://", "http://me:pass%20word@"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    world.answers["prices.example.com:443"] = (502, {}, b"")
    with pytest.raises(ProviderDown, match="502"):
        web.get("https://prices.example.com/list")
    method, target, headers, _ = world.asked[0]
    assert (method, target) == ("CONNECT", "prices.example.com:443")
    assert headers["Proxy-Authorization"] == "Basic bWU6cGFzcyB3b3Jk"


def test_this_machine_is_asked_directly(world, web, monkeypatch, unused_port):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_port}")
    world.text("/list", "x")
    assert lines(web, f"{world.url}/list") == ["x"]


def test_no_secret_is_ever_said(world, web):
    world.answers["/list"] = (403, {}, b"the key sk-12345678 of token=abcdefgh99 with body hunter2hunter2 is not known")
    with pytest.raises(CredentialsRejected) as raised:
        web.get(
            f"{world.url}/list?token=abcdefgh99",
            headers={"Authorization": "Bearer sk-12345678"},
            body=b'{"client_secret": "hunter2hunter2"}',
        )
    message = str(raised.value)
    assert "is not known" in message
    assert not any(secret in message for secret in ("sk-12345678", "abcdefgh99", "hunter2hunter2"))


def test_a_url_is_shown_without_user_and_query():
    assert shown("https://me:secret@x.example:8443/a?key=1") == "https://x.example:8443/a?…"
    assert shown("https://[") == "(an unreadable URL)"


def test_a_page_in_place_of_data_is_refused(world, web):
    world.answers["/list"] = (200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>sign in</html>")
    with pytest.raises(ProviderDown, match="HTML page"):
        lines(web, f"{world.url}/list")
    with web.get(f"{world.url}/list") as reply, pytest.raises(ProviderDown, match="text/html"):
        reply.json()


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff\xfe\x00", b'{"a": ' + b"9" * 10_000 + b"}"])
def test_what_is_not_json_is_refused(world, web, body):
    world.answers["/list"] = (200, {"Content-Type": "application/json"}, body)
    with web.get(f"{world.url}/list") as reply, pytest.raises(ProviderDown, match="not readable JSON"):
        reply.json()


def test_figures_that_json_does_not_have_are_none(world, web):
    world.answers["/list"] = (200, {}, b"[NaN, Infinity, -Infinity, 1]")
    with web.get(f"{world.url}/list") as reply:
        assert reply.json() == [None, None, None, 1]


def test_what_is_no_http_is_refused(world, web):
    def answer(handler, _):
        handler.wfile.write(b"SSH-2.0-OpenSSH_9\r\n")

    world.answers["/list"] = answer
    with pytest.raises(ProviderDown, match=http.client.BadStatusLine.__name__):
        web.get(f"{world.url}/list")
