"""Amazon on the wire for the tests of its provider: a way in, a look from the cloud's side, and what moto lacks."""

import asyncio
import http.client
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import botocore.session
import pytest

from sky.core.model.machines import MachineSpec
from sky.core.model.offers import Offer, Placement
from sky.core.ports import CreateAsk
from sky.kit.clock import SystemClock
from sky.providers.aws.compute import AwsCompute
from sky.providers.registry import Settings
from sky.remote.keys import KeyRing

HOME = "us-east-1"
_NUMBERS = count()
_XML = "text/xml"


class Hasty(SystemClock):
    """Nobody waits long in a test: time that is slept is taken as passed."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def now(self) -> float:
        return super().now() + self._ahead

    async def sleep(self, seconds: float) -> None:
        short = min(seconds, 0.05)
        await asyncio.sleep(short)
        self._ahead += seconds - short


def offer(**changes: Any) -> Offer:
    return replace(Offer("aws", HOME, None, "m5.large", 2, 8, 0.096), **changes)


def ask(nodes: int = 1, *, config: Mapping[str, object] | None = None, **changes: Any) -> CreateAsk:
    """An ask for a cluster that no other test has; `offer`, `machine` and the fields of the ask as named."""
    number = next(_NUMBERS)
    sold = changes.pop("offer", None) or offer()
    made = CreateAsk(f"key{number}", f"c{number}", f"cluster{number}", Placement(sold, nodes, sold.cpus, 8))
    return replace(made, config=config or {}, **changes)


class World:
    """A provider against the wire, and what is seen there by a client of our own."""

    def __init__(self, wire: Any, folder: Path, url: str = "") -> None:
        self.wire, self.folder = wire, folder
        self.environment = {
            **wire.environment,
            "AWS_ENDPOINT_URL": url or wire.url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.ring = KeyRing(folder / "keys")
        self.config: dict[str, object] = {}
        self.compute = self.other(self.ring)
        self._session = botocore.session.Session()
        self._session.set_credentials("test", "test")
        self._clients: dict[tuple[str, str], Any] = {}

    def other(self, ring: KeyRing) -> AwsCompute:
        """The provider of another installation."""
        made = Settings(self.folder, lambda: self.config, ring.installation, ring, self.environment, self.folder)
        return AwsCompute(made, Hasty())

    def client(self, service: str = "ec2", region: str = HOME) -> Any:
        made = self._clients.get((service, region))
        if made is None:
            made = self._session.create_client(service, region_name=region, endpoint_url=self.wire.url)
            self._clients[service, region] = made
        return made

    def machines(self, cluster_id: str | None = None, region: str = HOME) -> list[dict[str, Any]]:
        """Machines that are not ended, as the cloud has them."""
        filters = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]
        if cluster_id:
            filters.append({"Name": "tag:sky-cluster-id", "Values": [cluster_id]})
        found = self.client(region=region).describe_instances(Filters=filters)["Reservations"]
        return [raw for each in found for raw in each["Instances"]]

    def groups(self, cluster_id: str) -> list[dict[str, Any]]:
        """Security groups that were made for a cluster."""
        found = self.client().describe_security_groups()["SecurityGroups"]
        return [raw for raw in found if raw["GroupName"].endswith(f"-{cluster_id}")]

    def left(self, cluster_id: str) -> list[object]:
        """What the cloud still has of a cluster: machines, groups, hosts that run for nobody."""
        known = {raw["InstanceId"] for raw in self.machines()}
        strays = [host["name"] for host in self.wire.hosts() if host["name"] not in known]
        return [*(raw["InstanceId"] for raw in self.machines(cluster_id)), *self.groups(cluster_id), *strays]

    def login(self, reach: Mapping[str, str], command: str) -> str:
        """What a command says on a machine, reached as a user would: known key, our key, nothing else."""
        known = self.folder / "known_hosts"
        known.write_text(f"{reach['host']} {reach['host_key']}\n")
        options = ["StrictHostKeyChecking=yes", f"UserKnownHostsFile={known}", "BatchMode=yes", "IdentitiesOnly=yes"]
        words = ["ssh", "-F", "none", "-i", str(self.ring.identity()), *(f"-o{each}" for each in options)]
        until = time.monotonic() + 20
        while True:
            done = subprocess.run(
                [*words, f"{reach['user']}@{reach['host']}", command], capture_output=True, text=True, timeout=30
            )
            # A test host may answer for a moment before its first start has given it its key.
            if done.returncode != 255 or time.monotonic() > until:
                assert done.returncode == 0, done.stderr
                return done.stdout.strip()
            time.sleep(0.05)

    async def clear(self) -> None:
        """End what a test left, so that the next sees an empty cloud."""
        await asyncio.to_thread(self.wire.heal)
        if left := [raw["InstanceId"] for raw in self.machines()]:
            self.client().terminate_instances(InstanceIds=left)


@contextmanager
def one_description() -> Iterator[None]:
    """Sessions made inside read the descriptions of services once for all: each would take a tenth of a second."""
    plain = botocore.session.create_loader
    botocore.session.create_loader = _loader
    try:
        yield
    finally:
        botocore.session.create_loader = plain


_loader = cache(botocore.session.create_loader)


@pytest.fixture
async def world(aws_wire: Any, tmp_path: Path) -> Any:
    with one_description():
        made = World(aws_wire, tmp_path)
        yield made
        await made.clear()


class Stage:
    """Stands before the wire: notes what is asked, and answers in its place where a test says so."""

    def __init__(self, wire_url: str) -> None:
        stage = self
        self.asked: list[dict[str, str]] = []
        #: The signatures of all calls, in their order.
        self.signed: list[str] = []
        #: By operation: what to answer, as XML or JSON; None lets the wire answer.
        self.answers: dict[str, Callable[[Mapping[str, str]], str | None]] = {}
        #: Launches by token, and operations whose next answer is lost on its way.
        self.launched: dict[str, tuple[int, str, bytes]] = {}
        self.lost: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                target = self.headers.get("X-Amz-Target", "")
                fields = {} if target else dict(parse_qsl(body.decode()))
                name = target.rpartition(".")[2] or fields.get("Action", "")
                stage.signed.append(self.headers.get("Authorization", ""))
                stage.asked.append({"Action": name, **(json.loads(body) if target else fields)})
                answer = stage.answers[name](fields) if name in stage.answers else None
                if answer is not None:
                    status = 400 if "<Errors>" in answer else 200
                    self._send(status, "application/x-amz-json-1.1" if target else _XML, answer.encode())
                    return
                token = fields.get("ClientToken", "") if name == "RunInstances" else ""
                if token in stage.launched:  # EC2's own promise, which moto does not keep
                    self._send(*stage.launched[token])
                    return
                inner = http.client.HTTPConnection(urlsplit(wire_url).netloc, timeout=60)
                inner.request("POST", self.path, body, dict(self.headers))
                told = inner.getresponse()
                whole = (told.status, told.getheader("Content-Type", _XML), told.read())
                inner.close()
                if token and told.status == 200:
                    stage.launched[token] = whole
                if name in stage.lost:
                    stage.lost.remove(name)
                    self.close_connection = True
                    return
                self._send(*whole)

            def _send(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def calls(self, operation: str) -> list[dict[str, str]]:
        return [each for each in list(self.asked) if each["Action"] == operation]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture
def stage(aws_wire: Any) -> Iterator[Stage]:
    made = Stage(aws_wire.url)
    yield made
    made.close()


@pytest.fixture
async def staged(aws_wire: Any, stage: Stage, tmp_path: Path) -> Any:
    """A world whose provider asks through the stage."""
    with one_description():
        made = World(aws_wire, tmp_path, stage.url)
        yield made
        await made.clear()


def machines_xml(states: Mapping[str, str], reason: str = "") -> str:
    """What DescribeInstances answers for machines in these states."""
    why = f"<stateReason><code>{reason}</code><message>{reason}</message></stateReason>" if reason else ""
    items = "".join(
        f"<item><instanceId>{id}</instanceId><instanceState><code>0</code><name>{state}</name></instanceState>"
        f"{why if state == 'terminated' else ''}</item>"
        for id, state in states.items()
    )
    return (
        '<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><reservationSet><item>'
        f"<instancesSet>{items}</instancesSet></item></reservationSet></DescribeInstancesResponse>"
    )


NO_MACHINES = "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>"


def error_xml(code: str, message: str = "made up") -> str:
    return f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors></Response>"


__all__ = [
    "HOME",
    "NO_MACHINES",
    "Hasty",
    "MachineSpec",
    "Stage",
    "World",
    "ask",
    "error_xml",
    "machines_xml",
    "offer",
    "stage",
    "staged",
    "world",
]
