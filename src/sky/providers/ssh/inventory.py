"""What machines of pools have and hold, as each said last; kept on disk, so that a plan asks nobody.

Nothing is installed on a machine for it: one command, with what every Linux has.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sky.core.catalog.accelerators import canonical
from sky.core.errors import AgentUnreachable
from sky.core.ports import Shell
from sky.kit.clock import Clock
from sky.providers.records import save
from sky.providers.ssh.machine_scripts import LOOK
from sky.providers.ssh.pools import Machine

#: How long one machine may take to say what it has (less, if it was silent the last time, so that a dead machine holds
#: up nobody), and how many are asked at the same time.
_LOOK_S, _LOOK_AGAIN_S = 8.0, 3.0
_AT_ONCE = 64
_MOST_DEVICES = 64
_MOST_OWNERS = 1000


@dataclass(frozen=True, slots=True)
class Owner:
    """A node's `owner.json` on a machine: whose it is, and what it holds there.

    `key`, `cluster_name` and `pool` are for ourselves, should our own record be lost.
    """

    node: str
    installation: str
    cpus: float = 0.0
    memory_gb: float = 0.0
    devices: tuple[int, ...] = ()
    whole: bool = False
    key: str = ""
    cluster_name: str = ""
    pool: str = ""

    @classmethod
    def read(cls, text: str, host: str) -> Owner | None:
        """One line as a machine shows it; None for a broken one, or one of another machine that shares the home."""
        try:
            found = json.loads(text)
            if not isinstance(found, dict) or found.get("host") != host:
                return None
            devices = found.get("devices") or []
            return cls(
                str(found["node"])[:200],
                str(found["installation"])[:200],
                min(max(float(found.get("cpus", 0)), 0.0), 1e6),
                min(max(float(found.get("memory_gb", 0)), 0.0), 1e9),
                tuple(int(each) for each in devices[:_MOST_DEVICES]),
                found.get("whole") is True,
                *(str(found.get(key, ""))[:300] for key in ("key", "cluster_name", "pool")),
            )
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a machine said, at `seen` (seconds since the epoch); with `trouble`, what it said before that began.

    `devices` are index, name and GiB of each; `memory_gb` in GiB, `host` its own name, `ip` its address among others.
    """

    seen: float
    cpus: float = 0.0
    memory_gb: float = 0.0
    arch: str = "x86_64"
    host: str = ""
    ip: str = ""
    python: str = ""
    devices: tuple[tuple[int, str, float], ...] = ()
    owners: tuple[Owner, ...] = ()
    trouble: str = ""
    silent_since: float | None = None

    @property
    def known(self) -> bool:
        """Whether it ever said what it has."""
        return self.cpus > 0

    @property
    def device(self) -> str | None:
        """The name of most of its devices."""
        names = [name for _, name, _ in self.devices]
        return max(names, key=names.count) if names else None

    @property
    def accelerators(self) -> dict[str, float]:
        """Devices by name."""
        found: dict[str, float] = {}
        for _, name, _ in self.devices:
            found[name] = found.get(name, 0.0) + 1
        return found

    def shape(self, pool: str) -> str:
        """The name under which machines of a pool are the same: `rack-16cpu-64gb-h100x8`."""
        devices = "".join(f"-{name.lower()}x{count:g}" for name, count in sorted(self.accelerators.items()))
        return f"{pool}-{self.cpus:g}cpu-{self.memory_gb:.0f}gb{devices}"


def read_facts(text: str, now: float) -> Facts:
    """The answer of `LOOK`. Raises ValueError for one that says nothing of use."""
    values: dict[str, str] = {}
    devices: list[tuple[int, str, float]] = []
    owners: list[str] = []
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == "gpu" and len(devices) < _MOST_DEVICES:
            devices += _device(value)
        elif key == "owner" and len(owners) < _MOST_OWNERS:
            owners.append(value)
        elif key in ("cpus", "memory_kb", "arch", "system", "host", "ip", "python"):
            values.setdefault(key, value.strip()[:200])
    if values.get("system", "Linux") != "Linux":
        raise ValueError(f"it runs {values['system']}; machines of pools need Linux")
    try:
        cpus, memory = float(values["cpus"]), float(values["memory_kb"]) / 2**20
    except (KeyError, ValueError):
        raise ValueError("it does not say what processors and memory it has") from None
    if not (0 < cpus <= 1e5 and 0 < memory <= 1e8):
        raise ValueError(f"it says that it has {cpus:g} processors and {memory:g} GB of memory")
    host = values.get("host", "")
    return Facts(
        now,
        cpus,
        round(memory, 1),
        {"amd64": "x86_64", "aarch64": "arm64"}.get(values.get("arch", ""), values.get("arch", "x86_64")),
        host,
        values.get("ip", ""),
        values.get("python", ""),
        tuple(devices),
        tuple(each for each in (Owner.read(line, host) for line in owners) if each is not None),
    )


def _device(value: str) -> list[tuple[int, str, float]]:
    """`0, 81559, NVIDIA H100 80GB HBM3`, as nvidia-smi says it."""
    parts = [each.strip() for each in value.split(",", 2)]
    if len(parts) != 3 or not parts[0].isdigit() or not parts[2]:
        return []
    memory = float(parts[1]) / 1024 if parts[1].isdigit() else 0.0
    name = canonical(parts[2], memory or None) or _short(parts[2])
    return [(int(parts[0]), name, round(memory, 1))]


def _short(product: str) -> str:
    """A name for a device that nobody knows: the word with a number in it."""
    words = product.replace("-", " ").split()
    return next((word for word in words if any(each.isdigit() for each in word)), words[0])[:40]


class Inventory:
    """The machines as each said last; `path` keeps it."""

    def __init__(self, path: Path, shell: Shell, clock: Clock) -> None:
        self._path = path
        self._shell = shell
        self._clock = clock
        self._facts = _load(path)
        self._gate = asyncio.Semaphore(_AT_ONCE)

    def of(self, machine: Machine) -> Facts | None:
        """What is known of a machine."""
        return self._facts.get(machine.key)

    async def look(self, machines: Iterable[Machine]) -> Mapping[str, Facts]:
        """Ask machines, all at once; what is known of each now, by its key."""
        asked = list(machines)
        found = await asyncio.gather(*(self._look(machine) for machine in asked))
        for machine, facts in zip(asked, found, strict=True):
            self._facts[machine.key] = facts
        self._save()
        return {machine.key: facts for machine, facts in zip(asked, found, strict=True)}

    async def _look(self, machine: Machine) -> Facts:
        before = self._facts.get(machine.key, Facts(0.0))
        async with self._gate:
            try:
                patience = _LOOK_S if before.silent_since is None else _LOOK_AGAIN_S
                ran = await self._shell.run(machine.reach, ["/bin/sh", "-c", LOOK], timeout=patience)
                return read_facts(ran.stdout.decode("utf-8", "replace"), self._clock.now())
            except AgentUnreachable as error:
                return self._silent(before, str(error))
            except ValueError as error:
                return replace(before, trouble=str(error), seen=self._clock.now())

    def _silent(self, before: Facts, why: str) -> Facts:
        since = before.silent_since or self._clock.now()
        return replace(before, trouble=why, silent_since=since)

    def heard(self, machine_key: str, owners: Sequence[Owner] | None = None) -> None:
        """A machine answered in passing."""
        facts = self._facts.get(machine_key)
        if facts is not None and facts.known:
            told = facts.owners if owners is None else tuple(owners)
            self._facts[machine_key] = replace(facts, trouble="", silent_since=None, owners=told)

    def unheard(self, machine_key: str, why: str) -> float:
        """A machine did not answer in passing; since when it does not."""
        facts = self._silent(self._facts.get(machine_key, Facts(0.0)), why)
        self._facts[machine_key] = facts
        return facts.silent_since or self._clock.now()

    def forget(self, machines: Iterable[Machine]) -> None:
        """Know nothing of machines any more."""
        for machine in machines:
            self._facts.pop(machine.key, None)
        self._save()

    def _save(self) -> None:
        save(self._path, {key: asdict(facts) for key, facts in self._facts.items()})


def _load(path: Path) -> dict[str, Facts]:
    """What was kept; an inventory that cannot be read is only asked for again."""
    try:
        return {str(key): _facts(value) for key, value in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return {}


def _facts(value: Mapping[str, object]) -> Facts:
    fields = dict(value)
    devices, owners = fields.pop("devices"), fields.pop("owners")
    assert isinstance(devices, list)
    assert isinstance(owners, list)
    return Facts(
        **fields,  # type: ignore[arg-type]
        devices=tuple((int(index), str(name), float(memory)) for index, name, memory in devices),
        owners=tuple(Owner(**{**each, "devices": tuple(each["devices"])}) for each in owners),
    )
