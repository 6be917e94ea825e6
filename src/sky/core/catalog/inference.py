"""Fills in what a request leaves open and the catalog knows: the cloud of a region, the region of a zone, the
accelerators of an instance type.

Called on the server where a task is planned, before offers are searched: the client has no catalog. Places that no
catalog lists (this machine, Kubernetes, pools) are let through as they are.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from sky.core.catalog.accelerators import canonical
from sky.core.model.accelerator_names import vendor_of
from sky.core.model.accelerators import AcceleratorRequest
from sky.core.model.catalog import InstanceType, Place
from sky.core.model.clouds import CLOUD_NAMES
from sky.core.model.infra import Infra
from sky.core.model.offers import Offer
from sky.core.model.quantities import plain
from sky.core.model.resources import Resources
from sky.core.model.schema import Path, Problems

#: Names that a message lists, and close ones that it offers.
_MOST_NAMED = 5
_MOST_CLOSE = 3

#: GiB by which a size may be off and still be the one that was asked for.
_ROUNDING = 0.01

#: The runtime of a TPU machine by the generation in its name; older ones share the last.
_TPU_RUNTIMES = (
    (re.compile(r"tpu-v6e"), "v2-alpha-tpuv6e"),
    (re.compile(r"tpu-v5p"), "v2-alpha-tpuv5"),
    (re.compile(r"tpu-v5(e|lite)"), "v2-alpha-tpuv5-lite"),
)
_OLDER_TPU_RUNTIME = "tpu-ubuntu2204-base"


class Catalog(Protocol):
    """What is asked of `core.ports.Catalog` here; the ports stand above this room."""

    def types(self, name: str, cloud: str | None = None) -> list[InstanceType]: ...

    def type_names(self, cloud: str | None = None) -> Sequence[str]: ...

    def places(self, cloud: str | None = None) -> list[Place]: ...

    def accelerators(self) -> Mapping[str, str]: ...


class _WithOwn:
    """A catalog and offers that are not in it: what the user's own files and the providers say now."""

    def __init__(self, catalog: Catalog, own: Iterable[Offer]) -> None:
        self._catalog = catalog
        self._own = list(own)
        self.type_names = catalog.type_names
        self.accelerators = catalog.accelerators

    def places(self, cloud: str | None = None) -> list[Place]:
        own = {Place(each.cloud, each.region, each.zone) for each in self._own if cloud in (None, each.cloud)}
        return [*self._catalog.places(cloud), *own] if own else self._catalog.places(cloud)

    def types(self, name: str, cloud: str | None = None) -> list[InstanceType]:
        own = [_type_of(each) for each in self._own if each.instance_type == name and cloud in (None, each.cloud)]
        return [*own, *self._catalog.types(name, cloud)]


def _type_of(offer: Offer) -> InstanceType:
    name, count = next(iter(offer.accelerators.items()), (None, 0.0))
    return InstanceType(
        offer.cloud,
        offer.instance_type,
        offer.cpus,
        offer.memory_gb,
        accelerator=name,
        accelerator_count=count,
        accelerator_memory_gib=offer.accelerator_memory_gb,
    )


def resolve(
    resources: Resources,
    catalog: Catalog,
    enabled: Collection[str] | None = None,
    *,
    own: Iterable[Offer] = (),
    path: Path = (),
) -> Resources:
    """The same request with cloud, region, accelerators and TPU settings filled in where there is one answer.

    `enabled` are the clouds that can be used: where several have what was named, the answer is looked for among these
    first. `own` are offers that no catalog has: the user's, and those of providers such as this machine. `path` is
    where the request stands in its task. The request itself is returned when there is nothing to add.

    Raises InvalidSkyPilotConfigError (a ValueError) for a region, zone or instance type that is not known or that
    several clouds have, and for an instance type that is not what else was asked for, with both numbers.
    """
    if not _says_something(resources) or not _is_listed(resources.infra.cloud, catalog):
        return resources
    own = list(own)
    resources = _respelt(resources, own)
    catalog = _WithOwn(catalog, own)
    problems = Problems("resources")
    place = _resolve_place(resources.infra, catalog, enabled, path, problems)
    changes: dict[str, Any] = {}
    if resources.instance_type and not problems.found:
        place, changes = _resolve_type(resources, place, catalog, enabled, path, problems)
    problems.raise_if_any()
    if place != resources.infra and place.cloud in CLOUD_NAMES:
        changes["infra"] = place.to_str()
    changes.update(_tpu_settings(resources))
    # What a catalog says is canonical already.
    return Resources.of_canonical({**resources.to_yaml_config(), **changes}) if changes else resources


# --- places ----------------------------------------------------------------------------------------------------------


def _respelt(resources: Resources, own: Iterable[Offer]) -> Resources:
    """The accelerator by the name that catalogs use: `Tesla T4` is a `T4`; a name that somebody sells stays."""
    request = resources.accelerator_request
    if request is None or request.is_filter:
        return resources
    name = canonical(request.name)
    if name in (None, request.name) or any(request.name in each.accelerators for each in own):
        return resources
    return Resources.of_canonical({**resources.to_yaml_config(), "accelerators": {name: request.count}})


def _says_something(resources: Resources) -> bool:
    """Whether there is something that a catalog could add to; most requests are none of its business."""
    asked = resources.infra
    return bool(asked.region or asked.zone or resources.instance_type or resources.accelerators)


def _is_listed(cloud: str | None, catalog: Catalog) -> bool:
    return cloud is None or bool(catalog.places(cloud))


def _resolve_place(
    asked: Infra, catalog: Catalog, enabled: Collection[str] | None, path: Path, problems: Problems
) -> Infra:
    """The place with its cloud and region found from what was named of it."""
    if asked.region is None and asked.zone is None:
        return asked
    places = catalog.places(asked.cloud)
    fitting = [each for each in places if _lies_in(each, asked)]
    if not fitting and asked.zone is not None and (asked.cloud or asked.region):
        # Where no zone is known at all, a zone cannot be judged; what is known of the region still helps.
        around = [each for each in places if asked.region in (None, each.region)]
        fitting = [] if any(each.zone for each in around) else around
    if not fitting:
        _refuse_place(asked, places, path, problems)
        return asked
    cloud = _one_cloud(asked, {each.cloud for each in fitting}, enabled, path, problems)
    if cloud is None:
        return asked
    if asked.zone is None:
        return Infra(cloud, asked.region)
    found = {(each.region, each.zone) for each in fitting if each.cloud == cloud and each.zone}
    return Infra(cloud, *found.pop()) if len(found) == 1 else Infra(cloud, asked.region, asked.zone)


def _lies_in(place: Place, asked: Infra) -> bool:
    if asked.region is not None and place.region != asked.region:
        return False
    return asked.zone is None or asked.zone in (place.zone, place.zone_id)


def _one_cloud(
    asked: Infra, having: Collection[str], enabled: Collection[str] | None, path: Path, problems: Problems
) -> str | None:
    clouds = _usable(having, enabled)
    if len(clouds) == 1:
        return clouds[0]
    what, name = ("zone", asked.zone) if asked.zone else ("region", asked.region)
    rest = "/".join(part or "*" for part in (asked.region, asked.zone)[: 2 if asked.zone else 1])
    problems.add(
        (*path, "infra"),
        f"found the {what} '{name}', which {_listed(clouds)} have; say which one, like infra: {clouds[0]}/{rest}",
        found=str(name),
        allowed=tuple(f"{cloud}/{rest}" for cloud in clouds),
    )
    return None


def _usable(clouds: Collection[str], enabled: Collection[str] | None) -> list[str]:
    """Those that can be used, or all where none can: then it is for the planner to say so."""
    return sorted(set(clouds) & set(enabled or ())) or sorted(clouds)


def _refuse_place(asked: Infra, places: Iterable[Place], path: Path, problems: Problems) -> None:
    places = list(places)
    in_region = [each for each in places if each.region == asked.region]
    by_region = asked.zone is None or (asked.region is not None and not in_region)
    what, name = ("region", str(asked.region)) if by_region else ("zone", str(asked.zone))
    names: dict[str, set[str]] = {}
    for each in places if by_region else in_region or places:
        if word := each.region if by_region else each.zone:
            names.setdefault(word, set()).add(each.cloud)
    elsewhere = sorted({each.region for each in places if not by_region and each.zone == name})
    near = _close(name, names)
    shown = near if asked.cloud else [f"{each} ({', '.join(sorted(names[each]))})" for each in near]
    if elsewhere:
        tail = f"it is in the region {_listed(elsewhere)}"
    elif near:
        tail = f"did you mean {_listed(shown, 'or')}?"
    else:
        some = sorted(names)
        tail = f"there are {_listed(some if len(some) <= _MOST_NAMED else [*some[:_MOST_NAMED], 'more'])}"
    where = Infra(asked.cloud, None if by_region else asked.region)
    problems.add(
        (*path, "infra"),
        f"found the {what} '{name}', which {_nobody(where)}; {tail}",
        found=name,
        allowed=tuple(sorted(names)),
        hint=near[0] if near else "",
    )


def _nobody(place: Infra) -> str:
    """`no cloud in the catalog has`, or `the catalog does not have for aws/eu-west-1`."""
    return f"the catalog does not have for {place}" if place.to_str() else "no cloud in the catalog has"


def _close(word: str, known: Iterable[str]) -> list[str]:
    """Words that are like this one or begin with it, most alike first."""
    known = list(known)
    near = difflib.get_close_matches(word.lower(), known, n=_MOST_CLOSE, cutoff=0.7)
    # Two letters in the wrong order are the commonest slip, and cost as much as a wrong one by the measure above.
    near.sort(key=lambda each: sorted(each) != sorted(word.lower()))
    return near or [each for each in sorted(known) if each.startswith(word.lower())][:_MOST_CLOSE]


# --- instance types --------------------------------------------------------------------------------------------------


def _resolve_type(
    resources: Resources,
    place: Infra,
    catalog: Catalog,
    enabled: Collection[str] | None,
    path: Path,
    problems: Problems,
) -> tuple[Infra, dict[str, Any]]:
    """The place with the cloud of the instance type, and what the type says of the request."""
    name = resources.instance_type or ""
    types = catalog.types(name, place.cloud)
    where = (*path, "instance_type")
    if not types:
        _refuse_type(name, place, catalog, where, problems)
        return place, {}
    clouds = _usable({each.cloud for each in types}, enabled)
    if len(clouds) > 1:
        problems.add(
            where,
            f"found the instance type '{name}', which {_listed(clouds)} have; say which one, like infra: {clouds[0]}",
            found=name,
            allowed=tuple(clouds),
        )
        return place, {}
    place = Infra(clouds[0], place.region, place.zone)
    sold = next(each for each in types if each.cloud == clouds[0])
    changes: dict[str, Any] = {}
    request = resources.accelerator_request
    if request is not None and sold.accelerator is None:
        with_devices = catalog.types(f"{name}+{request.name}:{plain(request.count)}", place.cloud)
        if with_devices:
            sold = with_devices[0]
            changes["instance_type"] = sold.name
    _check_type(resources, sold, path, problems)
    if sold.accelerator is not None and (request is None or request.is_filter) and _can_be_asked(sold):
        changes["accelerators"] = {sold.accelerator: _count(sold)}
    return place, changes


def _can_be_asked(sold: InstanceType) -> bool:
    """Whether the count is one that a request may hold: a part of a device, or whole ones."""
    return 0 < sold.accelerator_count < 1 or float(sold.accelerator_count).is_integer()


def _count(sold: InstanceType) -> float:
    """The count as requests write it: whole numbers without a fraction."""
    count = sold.accelerator_count
    return int(count) if float(count).is_integer() else count


def _refuse_type(name: str, place: Infra, catalog: Catalog, where: Path, problems: Problems) -> None:
    elsewhere = sorted({each.cloud for each in catalog.types(name)})
    near = [] if elsewhere else _close(name, catalog.type_names(place.cloud))
    if elsewhere:
        tail = f"{_listed(elsewhere)} {'has' if len(elsewhere) == 1 else 'have'} it"
    elif near:
        tail = f"did you mean {_listed(near, 'or')}?"
    else:
        tail = "a type of your own goes into ~/.sky/catalog.d"
    problems.add(
        where,
        f"found the instance type '{name}', which {_nobody(Infra(place.cloud))}; {tail}",
        found=name,
        hint=near[0] if near else "",
    )


def _check_type(resources: Resources, sold: InstanceType, path: Path, problems: Problems) -> None:
    """Refuse what the type cannot be, naming what was asked and what it has."""

    def refuse(key: str, asked: object, has: str) -> None:
        reason = f"found {key}: {asked} beside instance_type: {sold.name}, which has {has}; leave one of them out"
        problems.add((*path, key), reason, found=str(asked), allowed=(has,))

    if resources.cpus is not None and not _serves(resources.cpus, sold.cpus):
        refuse("cpus", resources.cpus, f"{plain(sold.cpus)} vCPUs")
    memory = resources.memory
    if memory is not None:
        least = f"{float(memory[:-1]) * sold.cpus}+" if memory.endswith("x") else memory
        if not _serves(least, sold.memory_gib):
            refuse("memory", memory, f"{plain(round(sold.memory_gib, 2))} GB")
    request = resources.accelerator_request
    if request is not None and not _devices_serve(request, sold):
        has = f"{sold.accelerator}:{plain(sold.accelerator_count)}" if sold.accelerator else "no accelerators"
        refuse("accelerators", request, has)


def _serves(asked: str, has: float) -> bool:
    """Whether an amount is the one asked for (`4`) or at least that (`4+`)."""
    wanted = float(asked.rstrip("+"))
    return has >= wanted - _ROUNDING if asked.endswith("+") else abs(has - wanted) <= _ROUNDING


def _devices_serve(request: AcceleratorRequest, sold: InstanceType) -> bool:
    """Whether a type has the accelerators; a part of one device is what a job asks of a machine that has it whole."""
    if sold.accelerator is None:
        return False
    if request.count != sold.accelerator_count and not (request.count < 1 <= sold.accelerator_count):
        return False
    if not request.is_filter:
        return request.name.lower() == sold.accelerator.lower()
    if request.vendor is not None and vendor_of(sold.accelerator) not in (None, request.vendor):
        return False
    memory = sold.accelerator_memory_gib
    if memory is None:
        return True
    high = request.max_memory_gb
    return memory >= (request.min_memory_gb or 0) - _ROUNDING and (high is None or memory <= high + _ROUNDING)


# --- TPUs ------------------------------------------------------------------------------------------------------------


def _tpu_settings(resources: Resources) -> dict[str, Any]:
    """Settings of a TPU that were left open: a machine of its own, with the runtime of its generation."""
    request = resources.accelerator_request
    if request is None or not request.name.startswith("tpu-"):
        return {}
    given = resources.accelerator_args or {}
    settings = {"tpu_vm": True, **given}
    if settings["tpu_vm"]:
        fitting = (version for form, version in _TPU_RUNTIMES if form.match(request.name))
        settings.setdefault("runtime_version", next(fitting, _OLDER_TPU_RUNTIME))
    return {} if settings == given else {"accelerator_args": settings}


def _listed(names: Iterable[str], word: str = "and") -> str:
    *first, last = list(names) or [""]
    return f"{', '.join(first)} {word} {last}" if first else last
