"""Calls that nobody meant, made up from the server's own OpenAPI document: no answer may be a failure of the server.

    python benchmarks/hostile_calls.py [--minutes N] [--seed N] [--local]

Starts a real server in a folder of its own. Without `--local` no place is enabled, so that nothing that is made up is
ever carried out; with it there is one cluster on this machine, and tasks do nothing. Prints JSON lines: each failure
once, then a summary; ends with code 1 if there was any. `tests/server/test_openapi.py` runs a little of it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from sky.kit.paths import socket_path
from sky.sdk.http1 import Address, CannotConnect, Connection, ConnectionLost

#: Calls that end the server, ask the internet, or write where they are told.
LEFT_OUT = {"/api/shutdown", "/catalog/refresh", "/api/backup", "/api/debug_dump", "/openapi.json"}
#: Answers that say that something is not there or not now; everything else from 500 on is a failure of the server.
HONEST = {501, 503, 504}
#: Seconds for an answer to begin, and for which a stream is read.
ANSWER_S, STREAM_S = 60.0, 0.2

#: What a field may well hold, so that calls get past the first look: by the field's name.
LIKELY: dict[str, list[Any]] = {
    "cluster_name": ["one", "two", "no-such", "", "a" * 300, "x\0y", "one\n", "*", "../one"],
    "cluster_names": [["one"], ["*"], ["[" * 50], ["\0"]],
    "task": [{"run": "true"}, {"run": "true", "resources": {"cpus": "1+"}}, {"run": "\0"}, {"num_nodes": 10**9}],
    "dag": [{"tasks": [{"run": "true"}]}, {"tasks": [{}] * 3}],
    "resources": [{"accelerators": {"H100": 8}}, {"any_of": [{}]}, {"ports": ["1-65535"]}],
    "infra": ["local", "aws/*/x", "ssh/none", "k8s", "slurm/a/b"],
    "request_id": ["0" * 12, "\0", "*", "a" * 5000],
    "request_ids": [["0"], ["\0"], [""]],
    "user_name": ["ann", "\0", "a" * 300],
    "username": ["ann", "bob", "\0", "x y"],
    "users": [["ann"], ["\0"], ["nobody"]],
    "role": ["user", "admin", "viewer", "root"],
    "workspace_name": ["default", "team", "\0", "a/b"],
    "config": [{}, {"allowed_users": ["ann"], "private": True}, {"aws": {"disabled": True}}, {"x": {"y": ["\0"]}}],
    "job_id": [1, 0, -1, 2**63, 10**30],
    "job_ids": [[1], [2**63], []],
    "idle_minutes": [-1, 0, 10**18],
    "expires_in_days": [0, 1, 1e308, -0.0],
    "timeout": [0, 1e-9],
    "follow": [False],
    "tail": [0, 1, 2**63],
    "offset": [0, 2**62, -1],
    "limit": [1, 0, 2**62],
}

Failure = dict[str, Any]


class Hostile:
    """Makes calls to a server at its Unix socket, and judges the answers."""

    def __init__(self, socket: Path, *, tame: bool) -> None:
        self.address = Address("unix", path=str(socket))
        self.tame = tame
        self.calls = 0
        self.statuses: dict[int, int] = {}
        self.failures: dict[str, Failure] = {}
        self.document = json.loads(self._exchange("GET", "/openapi.json", {}, b"")[1])
        self.shapes: dict[tuple[str, str], Any] = {}
        schema = schemathesis.openapi.from_dict(self.document)
        found = [result.ok() for result in schema.get_all_operations()]
        self.operations = [each for each in found if each.path not in LEFT_OUT]

    def bombard(self, examples: int, number: int, operations: Iterable[Any] | None = None) -> None:
        """`examples` made-up calls of each operation, half of them valid by the document."""
        for operation in self.operations if operations is None else operations:
            for mode in GenerationMode:
                try:
                    self._some(operation, mode, max(1, examples // 2), number)
                except schemathesis.errors.SchemathesisError as nothing:
                    if "negative" not in str(nothing).lower():
                        raise
                except Exception as odd:
                    # An operation without parameters cannot be called wrongly.
                    if type(odd).__name__ not in ("Unsatisfiable", "SkipTest"):
                        raise

    def _some(self, operation: Any, mode: GenerationMode, examples: int, number: int) -> None:
        @seed(number)
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
        def one(case: Any, data: Any) -> None:
            if isinstance(case.body, dict):
                case.body = data.draw(_likely(case.body))
            if isinstance(case.query, Mapping):
                case.query = data.draw(_likely(dict(case.query)))
            self.call(case)

        one()

    def call(self, case: Any) -> None:
        """Make one call and keep what is wrong with its answer."""
        if self.tame and isinstance(case.body, dict):
            case.body = _tamed(case.operation.path, case.body)
        told = case.as_transport_kwargs(base_url="http://sky")
        told.pop("verify", None)
        try:
            ready = requests.Request(**{k: v for k, v in told.items() if k in _KNOWN}).prepare()
        except (requests.RequestException, UnicodeError):
            return
        body = ready.body or b""
        body = body if isinstance(body, bytes) else str(body).encode("utf-8", "surrogatepass")
        headers = {k: v for k, v in ready.headers.items() if k.lower() not in ("content-length", "host")}
        sent = f"{ready.method} {ready.path_url[:2000]}"
        self.calls += 1
        begun = time.monotonic()
        try:
            status, answer, kind = self._exchange(str(ready.method), ready.path_url, headers, body)
        except (CannotConnect, ConnectionLost, OSError) as lost:
            self._note(case, "no answer", sent, body, f"{lost} after {time.monotonic() - begun:.1f} s")
            return
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status >= 500 and status not in HONEST:
            self._note(case, str(status), sent, body, answer[:2000].decode(errors="replace"))
        elif status >= 400 and b'"error"' not in answer:
            self._note(case, f"{status} without an error", sent, body, answer[:500].decode(errors="replace"))
        elif kind.startswith("application/json"):
            self._conform(case, status, answer, sent, body)

    def _conform(self, case: Any, status: int, answer: bytes, sent: str, body: bytes) -> None:
        """An answer has the shape that the document promises."""
        key = (case.operation.label, "200" if status == 200 else "default")
        if key not in self.shapes:
            told = self.document["paths"][case.operation.path][case.operation.method.lower()]["responses"][key[1]]
            shape = told["content"].get("application/json", {}).get("schema", {})
            whole = {**shape, "components": self.document["components"]}
            self.shapes[key] = jsonschema_rs.validator_for(whole)
        try:
            self.shapes[key].validate(json.loads(answer))
        except (ValueError, jsonschema_rs.ValidationError) as other:
            self._note(case, "another shape", sent, body, f"{str(other)[:400]} in {answer[:600].decode()}")

    def _note(self, case: Any, what: str, sent: str, body: bytes, answer: str) -> None:
        key = f"{case.operation.label} {what}"
        if key not in self.failures:
            shown = body[:3000].decode(errors="replace")
            self.failures[key] = {"failure": what, "call": sent, "body": shown, "answer": answer}

    def _exchange(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes, str]:
        connection = Connection(self.address, ANSWER_S)
        try:
            response = connection.exchange(method, path, headers, body)
            kind = response.headers.get("content-type", "")
            if "ndjson" not in kind and "stream" not in kind and "jsonl" not in kind:
                return response.status, response.read(), kind
            connection.set_timeout(STREAM_S)
            parts = []
            try:
                for piece in response.pieces():
                    parts.append(piece)
                    if len(parts) > 20:
                        break
            except (ConnectionLost, OSError):
                pass
            return response.status, b"".join(parts), kind
        finally:
            connection.close()


_KNOWN = {"method", "url", "headers", "params", "data", "json", "cookies", "files", "auth"}


@st.composite
def _likely(draw: Callable[[Any], Any], body: dict[str, Any]) -> dict[str, Any]:
    """The arguments, some of them replaced by what may well be there."""
    changed = dict(body)
    for name in [*body, *draw(st.lists(st.sampled_from(sorted(LIKELY)), max_size=2))]:
        if name in LIKELY and draw(st.booleans()) and (name in body or draw(st.integers(0, 3)) == 0):
            changed[name] = draw(st.sampled_from(LIKELY[name]))
    return changed


def _tamed(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """A launch that can do no harm on this machine: another cluster than the one there is only as a dry run."""
    if path not in ("/launch", "/exec", "/start"):
        return body
    task = body.get("task")
    if isinstance(task, dict):
        kept = {key: value for key, value in task.items() if key in ("name", "num_nodes", "resources", "envs")}
        body = {**body, "task": {**kept, "run": "true"}}
    if path == "/launch" and body.get("cluster_name") != "one":
        body = {**body, "dryrun": True}
    return body


class Server:
    """A real server with a folder of its own."""

    def __init__(self, *, local: bool) -> None:
        # Not in a deep folder: the path of a socket is short.
        self.root = Path(tempfile.mkdtemp(prefix="sky-h-"))
        self.state = self.root / "s"
        (self.root / ".sky").mkdir()
        if not local:
            (self.root / ".sky" / "config.yaml").write_text("allowed_clouds: [lambda]\n")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SKY", "XDG", "AWS", "GOOGLE"))}
        self.env = {**kept, "HOME": str(self.root), "SKY_STATE_DIR": str(self.state)}
        ready, told = os.pipe()
        command = [sys.executable, "-m", "sky.server", "--ready-fd", str(told)]
        self.process = subprocess.Popen(command, env=self.env, cwd=self.root, pass_fds=[told])
        os.close(told)
        with os.fdopen(ready) as line:
            if line.readline().strip() != "ready":
                raise RuntimeError("the server did not start")
        if local:
            self.sky("launch", "-c", "one", "-y", "--", "true")

    def sky(self, *words: str) -> None:
        """Run the command line against it."""
        code = "from sky.cli import main; main()"
        subprocess.run([sys.executable, "-c", code, *words], env=self.env, cwd=self.root, check=True, timeout=120)

    def log_troubles(self) -> Iterator[str]:
        """Tracebacks in the server's log, each kind once."""
        text = "".join(
            path.read_text(errors="replace") for path in sorted(self.state.glob("server.log*"), reverse=True)
        )
        seen = set()
        for found in re.finditer(r"^Traceback .*?^(?=\S)(?!Traceback)[^\n]*", text, re.M | re.S):
            last = re.sub(r"'.*'|\d+", "#", found.group().splitlines()[-1])
            if last not in seen:
                seen.add(last)
                yield found.group()

    def end(self, *, keep: bool) -> None:
        """Stop it and what it started; with `keep` the folder stays, for who looks for the reason."""
        try:
            self.sky("down", "-a", "-y")
        finally:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
            if not keep:
                shutil.rmtree(self.root, ignore_errors=True)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description="Made-up calls to a real server.")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--examples", type=int, default=10, help="of each call and round")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--local", action="store_true", help="with a cluster on this machine")
    given_ = parser.parse_args()
    number = given_.seed if given_.seed is not None else random.SystemRandom().randrange(2**32)
    server = Server(local=given_.local)
    bad = True
    try:
        hostile = Hostile(socket_path(server.state), tame=given_.local)
        told: set[str] = set()
        end, rounds = time.monotonic() + given_.minutes * 60, 0
        while time.monotonic() < end and server.process.poll() is None:
            for operation in hostile.operations:
                hostile.bombard(given_.examples, number + rounds, [operation])
                if time.monotonic() > end:
                    break
            for key in hostile.failures.keys() - told:
                print(json.dumps(hostile.failures[key]), flush=True)
            told |= hostile.failures.keys()
            rounds += 1
        troubles = list(server.log_troubles())
        for text in troubles:
            print(json.dumps({"failure": "in the log", "answer": text[-3000:]}), flush=True)
        bad = bool(hostile.failures or troubles or server.process.poll() is not None)
        summary = {"seed": number, "rounds": rounds, "calls": hostile.calls, "statuses": hostile.statuses}
        print(
            json.dumps(
                {**summary, "failures": len(hostile.failures) + len(troubles), "alive": not server.process.poll()}
            )
        )
    finally:
        server.end(keep=bad)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
