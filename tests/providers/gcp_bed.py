"""A Google Cloud provider against the wire, what it is asked for, and what the cloud itself says is left."""

import asyncio
import json
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sky.core.model.machines import MachineSpec
from sky.core.model.offers import Offer, Placement
from sky.core.ports import CreateAsk
from sky.providers.gcp.compute import GcpCompute, open_gcp
from sky.providers.registry import Settings
from sky.remote.keys import KeyRing

PROJECT = "test-project"
ZONE = "us-central1-a"


class Bed:
    """One installation on the wire."""

    def __init__(self, wire: Any, home: Path, config: Mapping[str, object] | None = None, url: str = "") -> None:
        self.wire = wire
        self.keys = KeyRing(home / "keys")
        self.config = {"project_id": PROJECT, "endpoint": url or wire.url, **(config or {})}
        self.settings = Settings(home, lambda: self.config, self.keys.installation, self.keys, {}, home)
        self.compute: GcpCompute = open_gcp(self.settings)

    def ask(self, cluster: str, nodes: int = 1, *, key: str = "key-1", **more: Any) -> CreateAsk:
        given = dict(more)
        made = offer(**{name: given.pop(name) for name in list(given) if name in _OFFER})
        spec = MachineSpec(**{name: given.pop(name) for name in list(given) if name in MachineSpec.__slots__})
        placement = Placement(made, nodes, made.cpus, made.memory_gb, made.accelerators)
        return CreateAsk(key, cluster, f"name-of-{cluster}", placement, {"sky-user": "Me@Example.com"}, spec, **given)

    def login(self, node: Any, command: str) -> str:
        """What a command prints on a node, over SSH that knows the host's key beforehand or refuses."""
        known = self.keys.identity().parent / f"known-{node.id}"
        known.write_text(f"{node.reach['host']} {node.reach['host_key']}\n")
        options = ["StrictHostKeyChecking=yes", f"UserKnownHostsFile={known}", "IdentitiesOnly=yes", "BatchMode=yes"]
        options += ["ConnectTimeout=5", "ServerAliveInterval=2", "ServerAliveCountMax=2"]
        words = [word for option in options for word in ("-o", option)]
        target = f"{node.reach['user']}@{node.reach['host']}"
        done = subprocess.run(
            ["ssh", "-i", str(self.keys.identity()), "-p", node.reach["port"], *words, target, command],
            capture_output=True,
            text=True,
            timeout=30,
        )
        if done.returncode != 0:
            raise OSError(done.stderr)
        return done.stdout

    async def reached(self, node: Any, command: str) -> str:
        """As `login`, tried until the node has its key: the first moments of a machine."""
        for attempt in range(100):
            try:
                return await asyncio.to_thread(self.login, node, command)
            except OSError as error:
                if attempt == 99:
                    raise AssertionError(f"no login: {error}") from error
            await asyncio.sleep(0.1)
        raise AssertionError("unreachable")

    def get(self, path: str) -> Any:
        """What the cloud says, asked past the provider."""
        return self._send("GET", path)

    def post(self, path: str, body: Any) -> Any:
        return self._send("POST", path, body)

    def delete(self, path: str) -> Any:
        return self._send("DELETE", path)

    def _send(self, verb: str, path: str, body: Any = None) -> Any:
        url = f"{self.wire.url}/compute/v1/projects/{PROJECT}/{path}"
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(url, data, method=verb), timeout=30) as answer:
            return json.load(answer)

    def everywhere(self, kind: str) -> list[Any]:
        items = self.get(f"aggregated/{kind}").get("items", {})
        return [each for part in items.values() for each in part.get(kind, ())]

    def left(self, mark: str = "") -> list[str]:
        """All that the cloud still has but what an installation keeps: machines, rules, policies, groups, templates."""
        listed = [("instances", self.everywhere("instances")), ("policies", self.everywhere("resourcePolicies"))]
        listed += [("groups", self.everywhere("instanceGroupManagers"))]
        listed += [(kind, self.get(f"global/{kind}").get("items", ())) for kind in ("firewalls", "instanceTemplates")]
        found = [f"{kind}/{each['name']}" for kind, items in listed for each in items]
        found += [f"host/{host.get('name')}" for host in self.wire.hosts()]
        return [each for each in found if "/sky-all-" not in each and mark in each]

    def sweep(self) -> None:
        """Remove what a test that failed left, so that the next one is judged by its own."""
        self.wire.heal()
        for each in self.everywhere("instances"):
            self.delete(f"zones/{each['zone'].rpartition('/')[2]}/instances/{each['name']}")
        for kind in ("firewalls", "instanceTemplates"):
            for each in self.get(f"global/{kind}").get("items", ()):
                self.delete(f"global/{kind}/{each['name']}")
        for kind, place in (("resourcePolicies", "region"), ("instanceGroupManagers", "zone")):
            for each in self.everywhere(kind):
                self.delete(f"{place}s/{each[place].rpartition('/')[2]}/{kind}/{each['name']}")
        for _ in range(20):
            if not self.wire.hosts():
                return
            time.sleep(0.1)


_OFFER = ("region", "zone", "instance_type", "cpus", "memory_gb", "accelerators", "use_spot", "arch")


def offer(
    region: str = "us-central1",
    zone: str | None = ZONE,
    instance_type: str = "n2-standard-8",
    cpus: float = 8.0,
    memory_gb: float = 32.0,
    **more: Any,
) -> Offer:
    return Offer("gcp", region, zone, instance_type, cpus, memory_gb, 0.4, **more)
