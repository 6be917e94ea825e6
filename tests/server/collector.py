"""A receiver of traces: OTLP over HTTP, in protobuf, as a collector takes them."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Told(NamedTuple):
    """A span as it arrived."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    begun: int
    end: int
    failed: bool


class Collector:
    """What has arrived, and where it is sent."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Told] = []
        self.raw: list[bytes] = []

    def take(self, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        self.raw.append(body)
        for each in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {item.key: item.value.string_value for item in each.resource.attributes}
            for span in (span for scope in each.scope_spans for span in scope.spans):
                known = {item.key: getattr(item.value, str(item.value.WhichOneof("value"))) for item in span.attributes}
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                times = (span.start_time_unix_nano, span.end_time_unix_nano)
                self.spans.append(Told(about["service.name"], span.name, *ids, known, *times, span.status.code == 2))

    def named(self, name: str) -> list[Told]:
        return [each for each in self.spans if each.name == name]


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a port of this machine."""

    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            made.take(body)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Take)
    made = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
