"""Stands before the wire of Google Cloud and adds what it lacks: TPUs, groups that fill, lists that are late.

What a real service is asked for is checked against Google's own description of its interface, as the wire does.
"""

import json
import re
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import googleapiclient

DOCUMENTS = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
_METHOD = re.compile(r"v2/projects/[^/]+/locations/([^/]+)/(nodes|queuedResources|operations)(?:/([^/:]+))?(?::(\w+))?")


class Description:
    """Google's description of one interface: what may be sent to it."""

    def __init__(self, name: str) -> None:
        document = json.loads((DOCUMENTS / f"{name}.json").read_text())
        self.schemas = document["schemas"]
        self._methods = list(_methods(document))

    def check_query(self, verb: str, path: str, query: Mapping[str, str]) -> None:
        """Raise AssertionError for a method that is not there, or a parameter that it does not take."""
        taken = [names for wanted, pattern, names in self._methods if wanted == verb and pattern.fullmatch(path)]
        assert taken, f"no method {verb} {path}"
        assert any(set(query) <= names for names in taken), f"{verb} {path} takes none of {sorted(query)}"

    def check(self, kind: str, value: object) -> None:
        """Raise AssertionError for a field that is not there, cannot be written, or has another type or word."""
        self._check({"$ref": kind}, value, kind)

    def _check(self, schema: Mapping[str, Any], value: Any, where: str) -> None:
        if "$ref" in schema:
            schema = self.schemas[schema["$ref"]]
        kind = schema.get("type")
        if kind == "object":
            assert isinstance(value, Mapping), where
            for key, item in value.items():
                part = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
                assert part is not None, f"{where} has no {key}"
                assert not part.get("readOnly"), f"{where}.{key} cannot be written"
                self._check(part, item, f"{where}.{key}")
        elif kind == "array":
            assert isinstance(value, list), where
            for item in value:
                self._check(schema["items"], item, where)
        else:
            types = {"string": str, "boolean": bool, "integer": int, "number": int | float}
            assert isinstance(value, types[kind]), f"{where}: {value!r} is no {kind}"
            assert "enum" not in schema or value in schema["enum"], f"{where}: {value!r}"


def _methods(resource: Mapping[str, Any]) -> Iterator[tuple[str, re.Pattern[str], set[str]]]:
    for each in resource.get("methods", {}).values():
        pattern = re.sub(r"\{\+?\w+\}", "[^/]+", each.get("flatPath") or each["path"])
        yield each["httpMethod"], re.compile(pattern), set(each.get("parameters", {}))
    for part in resource.get("resources", {}).values():
        yield from _methods(part)


class Front:
    """`hidden` lists show no machines, none shows `blind` zones.

    `grants` says what becomes of requests for groups and TPUs: `yes`, `never` (they wait), or the error that they end
    with.
    """

    def __init__(self, behind: str) -> None:
        self.behind = behind
        self.hidden = 0
        self.blind: list[str] = []
        self.hosts = 1
        self.grants: str | Mapping[str, Any] = "yes"
        self.tpus: dict[str, dict[str, Any]] = {}
        self.queued: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.bearers: list[str] = []
        self.token: tuple[int, Any] = (200, {"access_token": "token-1", "expires_in": 3600, "token_type": "Bearer"})
        self._tpu = Description("tpu.v2")
        self._compute = Description("compute.v1")
        self.cancelled = 0
        self.url = ""

    # --- TPUs ----------------------------------------------------------------------------------------------------

    def tpu(self, verb: str, path: str, query: Mapping[str, str], body: Any) -> tuple[int, Any]:
        found = _METHOD.fullmatch(path)
        assert found is not None, path
        self._tpu.check_query(verb, path, query)
        zone, kind, name, action = found.groups()
        where = path.removeprefix("v2/").partition(":")[0]
        if kind == "operations":
            return 200, {
                "name": where,
                "done": True,
                **({} if self.grants in ("yes", "never") else {"error": self.grants}),
            }
        store = self.tpus if kind == "nodes" else self.queued
        if verb == "POST" and action is None:
            return self._make(kind, where, query, body, zone)
        if verb == "GET" and name is None:
            return 200, {"nodes": list(self.tpus.values())}
        if where not in store:
            return 404, {"error": {"code": 404, "status": "NOT_FOUND", "message": f"{where} was not found"}}
        if verb == "GET":
            return 200, store[where]
        if verb == "DELETE":
            del store[where]
            self.tpus.pop(where.replace("queuedResources", "nodes"), None)
        else:
            store[where]["state"] = {"stop": "STOPPED", "start": "READY"}[action]
        return 200, self._operation(where)

    def _make(self, kind: str, where: str, query: Mapping[str, str], body: Any, zone: str) -> tuple[int, Any]:
        self._tpu.check("Node" if kind == "nodes" else "QueuedResource", body)
        name = f"{where}/{query['nodeId' if kind == 'nodes' else 'queuedResourceId']}"
        if name in self.tpus or name in self.queued:
            return 409, {"error": {"code": 409, "status": "ALREADY_EXISTS", "message": f"{name} exists"}}
        self.asked.append(name)
        if kind == "nodes" and self.grants == "yes":
            self._begin(name, body)
        elif kind == "queuedResources":
            self.queued[name] = {
                **body,
                "name": name,
                "state": {"state": "ACTIVE" if self.grants == "yes" else "ACCEPTED"},
            }
            (spec,) = body["tpu"]["nodeSpec"]
            if self.grants == "yes":
                self._begin(f"{spec['parent']}/nodes/{spec['nodeId']}", spec["node"])
        return 200, self._operation(name)

    def _begin(self, name: str, body: Any) -> None:
        ends = [
            {"ipAddress": f"10.9.0.{n}", "port": 8470, "accessConfig": {"externalIp": f"192.0.2.{n}"}}
            for n in range(self.hosts)
        ]
        self.tpus[name] = {**body, "name": name, "state": "READY", "networkEndpoints": ends}

    @staticmethod
    def _operation(name: str) -> Any:
        return {"name": name.rsplit("/", 2)[0] + "/operations/op-1", "done": False}

    # --- groups and lists ----------------------------------------------------------------------------------------

    def passed(self, verb: str, path: str, body: Any) -> tuple[int, Any]:
        """Hand a request on, and do what the wire leaves out."""
        plain, _, query = path.partition("?")
        self._compute.check_query(verb, plain.removeprefix("compute/v1/"), dict(urllib.parse.parse_qsl(query)))
        status, answer = self._ask(verb, path, body)
        if verb == "POST" and path.partition("?")[0].endswith("/resizeRequests") and status == 200:
            self._fill(path, body)
        elif verb == "GET" and "/resizeRequests/" in path and status == 200:
            answer |= {"state": "SUCCEEDED" if self.grants == "yes" else "ACCEPTED", "status": {}}
            if isinstance(self.grants, Mapping):
                answer |= {"state": "FAILED", "status": {"error": {"errors": [dict(self.grants)]}}}
        elif verb == "POST" and plain.endswith("/cancel"):
            self.cancelled += 1
        elif verb == "POST" and plain.endswith("/deleteInstances") and status == 200:
            for each in body["instances"]:
                self._ask("DELETE", f"{plain.partition('/zones/')[0]}/{each}", None)
        elif "aggregated/instances" in path and self.hidden > 0:
            self.hidden -= 1
            answer = {"items": {}}
        elif "aggregated/instances" in path and self.blind:
            answer["unreachables"] = self.blind
        return status, answer

    def _fill(self, path: str, body: Any) -> None:
        if self.grants != "yes":
            return
        zone, group = path.partition("/instanceGroupManagers/")[0], path.split("/")[-2]
        project = zone.partition("/zones/")[0]
        _, template = self._ask("GET", f"{project}/global/instanceTemplates/{group}", None)
        for each in body["instances"]:
            made = json.loads(json.dumps(template["properties"]))
            made["metadata"]["items"].append({"key": "created-by", "value": f"{zone}/instanceGroupManagers/{group}"})
            assert self._ask("POST", f"{zone}/instances", {**made, "name": each["name"]})[0] == 200

    def _ask(self, verb: str, path: str, body: Any) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"{self.behind}/{path}", data, method=verb), timeout=30
            ) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@contextmanager
def front(behind: str) -> Iterator[Front]:
    """A front of a wire, serving."""
    made = Front(behind)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path, _, query = self.path.lstrip("/").partition("?")
            body = json.loads(text) if text.startswith(b"{") else None
            made.bearers.append(self.headers.get("Authorization", ""))
            try:
                if path == "token":
                    status, answer = made.token
                elif path == "tokeninfo":
                    status, answer = 200, {"email": "me@example.com"} if text == b"access_token=token-1" else {}
                elif path.startswith("v2/"):
                    status, answer = made.tpu(self.command, path, dict(urllib.parse.parse_qsl(query)), body)
                else:
                    status, answer = made.passed(self.command, self.path.lstrip("/"), body)
            except AssertionError as wrong:
                status, answer = 400, {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": str(wrong)}}
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_PATCH(self) -> None:
            self._answer()

        def do_DELETE(self) -> None:
            self._answer()

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
