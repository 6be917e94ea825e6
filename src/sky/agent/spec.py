"""What a job asks for, read from an untrusted request; used by the head (`head.py`, `gang.py`)."""

from __future__ import annotations

import math
from typing import Any, Dict, List, NamedTuple, Optional

from . import care, containers
from .fields import Fields, bad

DEFAULT_CPUS = 0.5


class JobSpec(NamedTuple):
    """A job as submitted, without its secrets. `cpus`, `accelerator_count` and `memory_gb` are per node."""

    name: Optional[str]
    user: str
    run: str
    setup: str
    num_nodes: int
    envs: Dict[str, str]
    cpus: float
    accelerator: Optional[str]
    accelerator_count: float
    memory_gb: float
    task_id: str
    workdir: bool
    git: Optional[Dict[str, Any]]
    submitted_at: float
    cancel_grace: float
    container: Optional[Dict[str, Any]]
    care: Optional[Dict[str, Any]] = None
    traceparent: Optional[str] = None
    fresh: Optional[List[int]] = None
    """Nodes on which setup is to run; None: all."""

    def resources_text(self) -> str:
        """The request in the form of the queue's table: `2x[CPU:0.5,H100:1]`."""
        inside = "CPU:%g" % self.cpus
        if self.accelerator:
            inside += ",%s:%g" % (self.accelerator, self.accelerator_count)
        return "%dx[%s]" % (self.num_nodes, inside)

    def whole_accelerators(self) -> int:
        """Devices a node's task sees; a share of one counts as one."""
        return math.ceil(self.accelerator_count)


def parse(values: Any, now: float) -> JobSpec:
    """Check a job's spec; Refused names the wrong field. Secrets are read apart, by `parse_secrets`."""
    fields = Fields(values, "the job")
    accelerator, count = _accelerators(fields)
    git = fields.raw("git")
    if git is not None:
        Fields(git, "the job's git").text("url")
    name = fields.text("name", None, 200)
    if name is not None and any(ord(letter) < 32 for letter in name):
        raise bad("the job's name holds control characters")
    return JobSpec(
        name=name,
        user=fields.text("user", "", 200),
        run=fields.text("run", "") or "",
        setup=fields.text("setup", "") or "",
        num_nodes=fields.integer("num_nodes", 1, 100000, 1),
        envs=fields.env("envs"),
        cpus=fields.number("cpus", 0, 1e6, DEFAULT_CPUS),
        accelerator=accelerator,
        accelerator_count=count,
        memory_gb=fields.number("memory_gb", 0, 1e9, 0.0),
        task_id=fields.name("task_id"),
        workdir=fields.flag("workdir"),
        git=git,
        submitted_at=fields.number("submitted_at", 0, 1e12, now),
        cancel_grace=fields.number("cancel_grace", 0, 3600, 10.0),
        container=_container(fields.raw("container")),
        care=care.stored(care.parse(fields.raw("care"))),
        traceparent=fields.text("traceparent", None, 60),
        fresh=fields.integers("fresh"),
    )


class Secrets(NamedTuple):
    """What of a job nobody may read: variables by name, and the login to the registry of its image."""

    envs: Dict[str, str]
    login: Optional[Dict[str, str]] = None

    def __repr__(self) -> str:
        return "Secrets(...)"


def parse_secrets(values: Any) -> Secrets:
    """The secrets of a job's spec."""
    fields = Fields(values, "the job")
    image = containers.parse(fields.raw("container"))
    return Secrets(fields.env("secrets"), image.login if image is not None else None)


def _container(values: Any) -> Optional[Dict[str, Any]]:
    image = containers.parse(values)
    if image is None:
        return None
    return {"image": image.name, "run_options": image.run_options, "mounts": list(image.mounts)}


def stored(spec: JobSpec) -> Dict[str, Any]:
    """The spec as kept in the ledger; `restored` reads it back."""
    return spec._asdict()


def restored(values: Dict[str, Any]) -> JobSpec:
    """The inverse of `stored`."""
    return JobSpec(**{name: values.get(name) for name in JobSpec._fields})  # type: ignore[arg-type]


def _accelerators(fields: Fields) -> Any:
    value = fields.raw("accelerators")
    if not value:
        return None, 0.0
    if not isinstance(value, dict) or len(value) != 1:
        raise bad("the job: 'accelerators' must name one kind of device, as {\"H100\": 1}")
    ((name, count),) = value.items()
    if isinstance(count, bool) or not isinstance(count, (int, float)) or not 0 < count <= 1024:
        raise bad("the job: the count of %r must be a number above 0, found %r" % (name[:80], count))
    if count > 1 and count != int(count):
        raise bad("the job: %r: more than one device must be a whole number of them, found %g" % (name[:80], count))
    return name, float(count)
