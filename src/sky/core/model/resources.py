"""What one node of a task needs: the public, immutable ``sky.Resources``.

Users build it from Python or YAML; ``TaskSpec`` carries it, the optimizer matches it against offers, and records show
it. It holds its own canonical configuration and nothing else, so what is shown, compared, hashed and sent is one thing.
``candidates.py`` reads the mappings that name several.
"""

from __future__ import annotations

import copy as copying
import enum
import json
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from sky.core.errors import not_supported
from sky.core.model import candidates
from sky.core.model.accelerator_names import ACCELERATORS, vendor_of
from sky.core.model.accelerators import AcceleratorRequest, parse_accelerators
from sky.core.model.autostop import AutostopConfig
from sky.core.model.clouds import Cloud, cloud_named
from sky.core.model.infra import Infra
from sky.core.model.quantities import plain
from sky.core.model.requirements import DEFAULT_DISK_SIZE_GB, ORDERED, DiskTier, NetworkTier, canonical_config
from sky.core.model.schema import Problems, nearest

_PLACE_KEYS = ("cloud", "region", "zone")
#: Keywords of older interfaces that still work, and what took their place.
_FORMER = {"spot_recovery": "job_recovery", "ephemeral_storage": "local_disk"}


class Region(NamedTuple):
    """A region with the zones that were named in it, none where the whole region is meant."""

    name: str
    zones: tuple[str, ...] = ()


class Resources:
    """What one node needs; everything left out is left to the optimizer.

    Sizes are in GB, costs in dollars per node and hour. Raises ``InvalidSkyPilotConfigError`` (a ``ValueError``) with
    every problem when a value is not valid.
    """

    __slots__ = ("_config",)
    _config: dict[str, Any]

    def __init__(  # noqa: PLR0913, PLR0917 - the compatible public signature
        self,
        cloud: Cloud | str | None = None,
        instance_type: str | None = None,
        cpus: float | str | None = None,
        memory: float | str | None = None,
        accelerators: str | Mapping[str, float] | None = None,
        accelerator_args: Mapping[str, Any] | None = None,
        infra: str | Infra | None = None,
        use_spot: bool | None = None,
        job_recovery: str | Mapping[str, Any] | None = None,
        region: str | None = None,
        zone: str | None = None,
        image_id: str | Mapping[str | None, str] | None = None,
        disk_size: int | str | None = None,
        disk_tier: str | None = None,
        network_tier: str | None = None,
        local_disk: str | None = None,
        max_hourly_cost: float | None = None,
        ports: int | str | list[int | str] | tuple[int | str, ...] | None = None,
        labels: Mapping[str, str] | None = None,
        autostop: bool | int | str | Mapping[str, Any] | AutostopConfig | None = None,
        priority: int | None = None,
        priority_class: str | None = None,
        volumes: list[Mapping[str, Any]] | None = None,
        **internal: Any,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "internal", "__class__")}
        for name in internal:
            if not name.startswith("_") and name not in ("spot_recovery", "gpus", "ephemeral_storage"):
                hint = nearest(name, given)
                ask = f"; did you mean '{hint}'?" if hint else ""
                raise TypeError(f"Resources() has no parameter '{name}'{ask}")
            if name in _FORMER:
                warnings.warn(f"Resources({name}=…) is now {_FORMER[name]}", DeprecationWarning, stacklevel=2)
        problems = Problems("resources")
        config = canonical_config(_plain_values({**given, **internal}), problems)
        problems.raise_if_any()
        object.__setattr__(self, "_config", config)

    # --- making one from another -------------------------------------------------------------------------------------

    @classmethod
    def of_canonical(cls, config: dict[str, Any]) -> Resources:
        """Wrap a mapping that ``canonical_config`` returned; nothing is checked again."""
        made = cls.__new__(cls)
        object.__setattr__(made, "_config", config)
        return made

    @classmethod
    def from_yaml_config(cls, config: Mapping[str, Any] | None) -> set[Resources] | list[Resources]:
        """Read a ``resources`` mapping: a set (of one, or of the alternatives of ``any_of``), or a list if ordered."""
        problems = Problems("resources")
        configs, order = candidates.read(config or {}, problems, ())
        problems.raise_if_any()
        found = [cls.of_canonical(one) for one in configs]
        return found if order == ORDERED else set(found)

    def copy(self, **override: Any) -> Resources:
        """Return one that differs in the given keywords; ``None`` leaves a value open again."""
        config = self.to_yaml_config()
        if "infra" in override:
            override = {**dict.fromkeys(_PLACE_KEYS), **override}
        elif any(key in override for key in _PLACE_KEYS):
            place = Infra.parse(config.pop("infra")) if "infra" in config else Infra()
            config.update(cloud=place.cloud, region=place.region, zone=place.zone)
        return type(self)(**{**config, **override})

    def override_autostop_config(self, down: bool = False, idle_minutes: int | None = None) -> Resources:
        """Return one whose autostop is changed by what a command line gave."""
        if not down and idle_minutes is None:
            return self
        old = self.autostop_config
        minutes = idle_minutes if idle_minutes is not None else (old.idle_minutes if old else 0)
        wait_for = old.wait_for.value if old and old.wait_for else None
        return self.copy(
            autostop={"idle_minutes": minutes, "down": down or bool(old and old.down), "wait_for": wait_for}
        )

    def to_yaml_config(self, redact_secrets: bool = False) -> dict[str, Any]:
        """Return the canonical mapping; ``from_yaml_config`` of it gives this one back."""
        config = copying.deepcopy(self._config)
        if redact_secrets:
            return {key: value for key, value in config.items() if not key.startswith("_docker")}
        return config

    # --- what was asked for ------------------------------------------------------------------------------------------

    @property
    def infra(self) -> Infra:
        """The place, with parts left open as ``None``."""
        return Infra.parse(self._config.get("infra", "*"))

    @property
    def cloud(self) -> Cloud | None:
        """The cloud, or ``None`` for any."""
        name = self.infra.cloud
        return cloud_named(name) if name else None

    @property
    def region(self) -> str | None:
        """The region, Kubernetes context, SSH pool or Slurm cluster."""
        return self.infra.region

    @property
    def zone(self) -> str | None:
        """The zone or Slurm partition."""
        return self.infra.zone

    @property
    def instance_type(self) -> str | None:
        """Exactly this type of instance."""
        return self._config.get("instance_type")

    @property
    def cpus(self) -> str | None:
        """vCPUs: ``"4"`` exactly, ``"4+"`` at least."""
        return self._config.get("cpus")

    @property
    def memory(self) -> str | None:
        """Memory in GB: ``"16"``, ``"16+"``, or ``"4x"`` times the vCPUs."""
        return self._config.get("memory")

    @property
    def accelerators(self) -> dict[str, float] | None:
        """``{name: count}`` of one entry, or ``None``."""
        found = self._config.get("accelerators")
        return dict(found) if found else None

    @property
    def accelerator_request(self) -> AcceleratorRequest | None:
        """The accelerators as a value, filters taken apart."""
        found = self._config.get("accelerators")
        return parse_accelerators(found)[0] if found else None

    @property
    def accelerator_args(self) -> dict[str, Any] | None:
        """Settings of a TPU."""
        return copying.deepcopy(self._config.get("accelerator_args"))

    @property
    def use_spot(self) -> bool:
        """Whether capacity that may be taken away is rented."""
        return bool(self._config.get("use_spot", False))

    @property
    def use_spot_specified(self) -> bool:
        """Whether ``use_spot`` was given at all."""
        return "use_spot" in self._config

    @property
    def job_recovery(self) -> dict[str, Any] | None:
        """``{strategy, max_restarts_on_errors, recover_on_exit_codes}``, as far as given."""
        return copying.deepcopy(self._config.get("job_recovery"))

    @property
    def image_id(self) -> dict[str | None, str] | None:
        """Images by region; the key ``None`` is for every region."""
        found = self._config.get("image_id")
        if found is None:
            return None
        return dict(found) if isinstance(found, Mapping) else {self.region: found}

    @property
    def disk_size(self) -> int:
        """Size of the disk in GB."""
        return int(self._config.get("disk_size", DEFAULT_DISK_SIZE_GB))

    @property
    def disk_tier(self) -> DiskTier | None:
        """Speed of the disk, or ``None`` for the default."""
        found = self._config.get("disk_tier")
        return DiskTier(found) if found else None

    @property
    def network_tier(self) -> NetworkTier | None:
        """Speed of the network between nodes, or ``None`` for the default."""
        found = self._config.get("network_tier")
        return NetworkTier(found) if found else None

    @property
    def local_disk(self) -> str | None:
        """A disk inside the instance: ``nvme:300+``."""
        return self._config.get("local_disk")

    @property
    def max_hourly_cost(self) -> float | None:
        """Highest price per node and hour in dollars."""
        return self._config.get("max_hourly_cost")

    @property
    def ports(self) -> list[str] | None:
        """Ports and ranges to open, sorted."""
        found = self._config.get("ports")
        return list(found) if found else None

    @property
    def labels(self) -> dict[str, str] | None:
        """Labels on the instances."""
        found = self._config.get("labels")
        return dict(found) if found else None

    @property
    def autostop_config(self) -> AutostopConfig | None:
        """When an idle cluster stops, or ``None`` where nothing was said."""
        return AutostopConfig.from_yaml_config(self._config.get("autostop"))

    autostop = autostop_config

    @property
    def priority(self) -> int | None:
        """Rank among waiting jobs, or ``None`` for the default of 0."""
        return self._config.get("priority")

    @property
    def priority_class(self) -> str | None:
        """Named rank of the infra's own scheduler."""
        return self._config.get("priority_class")

    @property
    def volumes(self) -> list[dict[str, Any]] | None:
        """Disks to attach."""
        return copying.deepcopy(self._config.get("volumes"))

    @property
    def cluster_config_overrides(self) -> dict[str, Any]:
        """Overrides of the configuration that travel with the candidate."""
        return copying.deepcopy(self._config.get("_cluster_config_overrides") or {})

    # --- questions ---------------------------------------------------------------------------------------------------

    def is_empty(self) -> bool:
        """Whether nothing at all was asked for."""
        return not self._config

    def is_launchable(self) -> bool:
        """Whether cloud and instance type are fixed."""
        return self.infra.cloud is not None and self.instance_type is not None

    def assert_launchable(self) -> Resources:
        """Return self; raises ``ValueError`` unless cloud and instance type are fixed."""
        if not self.is_launchable():
            raise ValueError(f"{self!r} does not fix cloud and instance type yet; the optimizer does that.")
        return self

    def validate(self) -> None:
        """Do nothing: one that is not valid cannot be made."""

    def extract_docker_image(self) -> str | None:
        """Return the container image asked for by ``docker:IMAGE``, or ``None``."""
        images = list((self.image_id or {}).values())
        return images[0].removeprefix("docker:") if len(images) == 1 and images[0].startswith("docker:") else None

    def get_accelerators_str(self) -> str:
        """Return ``H100:8``, or ``-`` for none."""
        request = self.accelerator_request
        return str(request) if request else "-"

    def get_spot_str(self) -> str:
        """Return ``[Spot]`` or an empty text."""
        return "[Spot]" if self.use_spot else ""

    def get_cost(self, seconds: float) -> float:
        """Return the price in dollars of so many seconds of one node.

        It is known on this machine (0) and where a plan put it in (``_price_hourly``). Raises ``NotSupportedError``
        otherwise: prices are asked of the server.
        """
        if seconds < 0:
            raise ValueError(f"found {seconds} seconds; allowed: 0 or more")
        hourly = self._config.get("_price_hourly", 0.0 if self.infra.cloud == "local" else None)
        if hourly is None:
            raise not_supported(
                "Telling a price without the catalog",
                str(self.infra),
                instead="The server has it: sky.optimize(dag) gives the price of each placement, "
                "sky.list_accelerators(all_regions=True) those of every region.",
            )
        return float(hourly) * seconds / 3600

    def get_valid_regions_for_launchable(self) -> list[Region]:
        """Return the places this is fixed to: the region that is named, or those of a plan (``_regions``).

        Raises ``ValueError`` unless cloud and instance type are fixed, ``NotSupportedError`` where the region is open:
        regions are asked of the server.
        """
        if self.infra.cloud == "local":
            return [Region("local")]
        self.assert_launchable()
        if self.region is not None:
            return [Region(self.region, (self.zone,) if self.zone else ())]
        if "_regions" in self._config:
            return [Region(name) for name in self._config["_regions"]]
        raise not_supported(
            "Listing regions without the catalog",
            str(self.infra),
            instead="The server has it: sky.optimize(dag) gives every placement, "
            "sky.list_accelerators(all_regions=True) every region that sells an accelerator.",
        )

    def get_reservations_available_resources(self) -> dict[str, int]:
        """Raise ``NotSupportedError``: reservations are known to the server and counted where it plans."""
        raise not_supported(
            "Asking for reservations",
            str(self.infra),
            instead="Those in ~/.sky/catalog.d are used before anything is paid for: see sky.optimize(dag).",
        )

    def should_be_blocked_by(self, blocked: Resources) -> bool:
        """Say whether ``blocked`` rules this out: all that it fixes is the same here, what it leaves open matches."""
        if not blocked.infra.covers(self.infra):
            return False
        if blocked.instance_type is not None and blocked.instance_type != self.instance_type:
            return False
        if blocked.accelerators is not None and blocked.accelerators != self.accelerators:
            return False
        return not blocked.use_spot_specified or blocked.use_spot == self.use_spot

    def less_demanding_than(self, other: Resources, requested_num_nodes: int = 1, check_ports: bool = False) -> bool:
        """Say whether a node made for ``other`` also serves this; what ``other`` leaves open is taken as enough."""
        if not self.infra.covers(other.infra) or (self.use_spot_specified and self.use_spot != other.use_spot):
            return False
        if self.instance_type and other.instance_type not in (None, self.instance_type):
            return False
        if check_ports and not _ports_within(self.ports or [], other.ports or []):
            return False
        if "disk_size" in self._config and self.disk_size > other.disk_size:
            return False
        return (
            _same_where_given(self, other)
            and _tier_within(self.disk_tier, other.disk_tier)
            and _tier_within(self.network_tier, other.network_tier)
            and _amount_within(self.cpus, other.cpus)
            and _amount_within(self.memory, other.memory)
            and _accelerators_within(self.accelerator_request, other.accelerator_request)
        )

    # --- being a value -----------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Resources cannot be changed; use copy({name}=...) for another one.")

    def __deepcopy__(self, memo: object) -> Resources:
        return self

    def __copy__(self) -> Resources:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).of_canonical, (self.to_yaml_config(),)

    def _key(self) -> str:
        return json.dumps(self._config, sort_keys=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Resources) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        parts = [f"{self.instance_type or ''}{self.get_spot_str()}"]
        parts += [f"{key}={self._config[key]}" for key in ("cpus", "memory") if key in self._config]
        parts += [str(self.accelerator_request)] if self.accelerators else []
        for key in ("disk_size", "disk_tier", "network_tier", "local_disk", "image_id"):
            parts += [f"{key}={self._config[key]}"] if key in self._config else []
        parts += [f"ports={','.join(self.ports)}"] if self.ports else []
        place = str(self.infra) if self.infra.cloud or self.infra.region else ""
        details = ", ".join(filter(None, parts))
        return f"{place or 'any'}({details})" if details or not place else place


def _plain_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return constructor arguments as a ``resources`` mapping would hold them."""
    config = {name: value for name, value in given.items() if value is not None}
    if isinstance(config.get("cloud"), Cloud):
        config["cloud"] = config["cloud"].canonical_name()
    if isinstance(config.get("infra"), Infra):
        config["infra"] = config["infra"].to_str() or "*"
    if isinstance(config.get("autostop"), AutostopConfig):
        config["autostop"] = config["autostop"].to_yaml_config()
    image = config.get("image_id")
    if isinstance(image, Mapping) and None in image:
        config["image_id"] = image[None]
    return config


def _same_where_given(asked: Resources, has: Resources) -> bool:
    """Say whether images and settings of accelerators agree where both were given."""
    if asked.image_id and has.image_id and asked.image_id != has.image_id:
        return False
    settings = has.accelerator_args or {}
    return all(settings.get(key, value) == value for key, value in (asked.accelerator_args or {}).items())


def _tier_within(asked: enum.StrEnum | None, has: enum.StrEnum | None) -> bool:
    """Say whether a tier is at most the other; tiers are declared from low to high."""
    if asked is None or has is None:
        return True
    order = list(type(asked))
    return order.index(asked) <= order.index(has)


def _amount_within(asked: str | None, has: str | None) -> bool:
    """Say whether an amount serves a request; ratios are the optimizer's business, so they are taken as served."""
    if asked is None or has is None or asked.endswith("x") or has.endswith("x"):
        return True
    wanted, there = float(asked.rstrip("+")), float(has.rstrip("+"))
    return there >= wanted if asked.endswith("+") else there == wanted


def _accelerators_within(asked: AcceleratorRequest | None, has: AcceleratorRequest | None) -> bool:
    if asked is None:
        return True
    if has is None or has.count < asked.count:
        return False
    return _filter_takes(asked, has.name) if asked.is_filter else asked.name == has.name


def _filter_takes(asked: AcceleratorRequest, name: str) -> bool:
    """Say whether a filter takes an accelerator; what is not known of it is taken as fitting."""
    if asked.vendor is not None and vendor_of(name) not in (None, asked.vendor):
        return False
    memory = ACCELERATORS[name].memory_gib if name in ACCELERATORS else None
    return memory is None or (asked.min_memory_gb or 0) <= memory <= (asked.max_memory_gb or memory)


def _ports_within(asked: list[str], has: list[str]) -> bool:
    def span(text: str) -> tuple[int, int]:
        first, _, last = text.partition("-")
        return int(first), int(last or first)

    open_spans = [span(one) for one in has]
    return all(any(a <= first and last <= b for a, b in open_spans) for first, last in map(span, asked))


def format_resources(resources: Resources) -> str:
    """Return the one-line form that tables show: ``cpus=4, mem=16, H100:8``."""
    amounts = [("cpus", resources.cpus), ("mem", resources.memory)]
    parts = [f"{name}={value}" for name, value in amounts if value]
    request = resources.accelerator_request
    parts = [f"gpus={request.name}:{plain(request.count)}", *parts] if request else parts
    return ", ".join(parts) or "-"
