"""What makes a task a service or a pool: probe, replicas, balancing, and the defaults of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sky.core.model.quantities import parse_port

DEFAULT_PROBE_INITIAL_DELAY_SECONDS = 1200
DEFAULT_PROBE_TIMEOUT_SECONDS = 15
DEFAULT_PROBE_INTERVAL_SECONDS = 10
DEFAULT_UPSCALE_DELAY_SECONDS = 300
DEFAULT_DOWNSCALE_DELAY_SECONDS = 1200
DEFAULT_STREAM_TIMEOUT_SECONDS = 120
DEFAULT_QUEUE_LENGTH_THRESHOLD = 1
DEFAULT_LOAD_BALANCING_POLICY = "least_load"

_INSTANCE_AWARE = "instance_aware_least_load"


@dataclass(frozen=True, slots=True)
class ReadinessProbe:
    """How a replica is seen to be ready; times in seconds."""

    path: str
    initial_delay_seconds: float = DEFAULT_PROBE_INITIAL_DELAY_SECONDS
    timeout_seconds: float = DEFAULT_PROBE_TIMEOUT_SECONDS
    endpoint_probe_interval_seconds: float = DEFAULT_PROBE_INTERVAL_SECONDS
    consecutive_failure_threshold_timeout: float | None = None
    post_data: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_config(cls, value: str | Mapping[str, Any]) -> ReadinessProbe:
        """Read a path or a mapping; raises ``ValueError`` for a path without its slash or a body that is not JSON."""
        given: dict[str, Any] = {"path": value} if isinstance(value, str) else _present(value)
        path = str(given.get("path", ""))
        if not path.startswith("/"):
            raise ValueError(f"found the probe path '{path[:80]}'; allowed: a path that begins with /")
        body = given.get("post_data")
        if isinstance(body, str):
            try:
                body = json.loads(body)
            except ValueError:
                body = None
            if not isinstance(body, dict):
                raise ValueError("found post_data that is not a JSON object; allowed: a mapping or the text of one")
        times = {key: given[key] for key in given if key not in ("path", "post_data", "headers")}
        return cls(path, post_data=body, headers=dict(given.get("headers") or {}), **times)

    def to_config(self) -> dict[str, Any]:
        """Return the mapping that ``from_config`` reads back."""
        config = {name: getattr(self, name) for name in self.__slots__}
        return {key: value for key, value in config.items() if value is not None and value != {}}


@dataclass(frozen=True, slots=True)
class ReplicaPolicy:
    """How many replicas, and when that number changes; delays in seconds."""

    min_replicas: int
    max_replicas: int | None = None
    num_overprovision: int | None = None
    target_qps_per_replica: float | Mapping[str, float] | None = None
    dynamic_ondemand_fallback: bool | None = None
    base_ondemand_fallback_replicas: int | None = None
    spot_placer: str | None = None
    upscale_delay_seconds: float = DEFAULT_UPSCALE_DELAY_SECONDS
    downscale_delay_seconds: float = DEFAULT_DOWNSCALE_DELAY_SECONDS
    queue_length_threshold: int | None = None

    def to_config(self) -> dict[str, Any]:
        """Return the keys that were given or have a default."""
        config = {name: getattr(self, name) for name in self.__slots__}
        return {key: value for key, value in config.items() if value is not None}

    def check(self) -> None:
        """Raise ``ValueError`` where the numbers contradict each other."""
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            raise ValueError(f"found a most of {self.max_replicas} below the least of {self.min_replicas}")
        scales = self.max_replicas is not None and self.max_replicas != self.min_replicas
        pool = self.queue_length_threshold is not None
        if scales and not pool and self.target_qps_per_replica is None:
            raise ValueError("found different min_replicas and max_replicas without target_qps_per_replica")
        if self.target_qps_per_replica is not None and self.max_replicas is None:
            raise ValueError("found target_qps_per_replica without max_replicas")
        rates = self.target_qps_per_replica
        for rate in rates.values() if isinstance(rates, Mapping) else [rates]:
            if rate is not None and not rate > 0:
                raise ValueError(f"found target_qps_per_replica {rate}; allowed: a number above 0")


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A service, or with ``pool`` a pool of workers. ``ports``: the replicas' port, ``None``: that of the resources."""

    replica_policy: ReplicaPolicy
    readiness_probe: ReadinessProbe | None = None
    load_balancing_policy: str | None = None
    stream_timeout_seconds: float = DEFAULT_STREAM_TIMEOUT_SECONDS
    ports: int | None = None
    tls_keyfile: str | None = None
    tls_certfile: str | None = None
    pool: bool = False

    @classmethod
    def from_service_config(cls, config: Mapping[str, Any]) -> ServiceSpec:
        """Read a mapping that ``fields.SERVICE`` accepts; raises ``ValueError`` for what does not fit together."""
        given = _present(config)
        if "readiness_probe" not in given:
            raise ValueError("found a service without 'readiness_probe'; allowed: a path like /health, or a mapping")
        counts = [key for key in ("replicas", "replica_policy") if key in given]
        if len(counts) != 1:
            raise ValueError(
                f"found {' and '.join(counts) or 'neither'}; allowed: exactly one of replicas, replica_policy"
            )
        policy_name = given.get("load_balancing_policy")
        policy_name = policy_name and str(policy_name).lower()
        policy = _replica_policy(given)
        by_accelerator = isinstance(policy.target_qps_per_replica, Mapping)
        if by_accelerator != (policy_name == _INSTANCE_AWARE):
            raise ValueError(
                f"target_qps_per_replica by accelerator and load_balancing_policy {_INSTANCE_AWARE} need each other"
            )
        tls = _present(given.get("tls") or {})
        if tls and set(tls) != {"keyfile", "certfile"}:
            raise ValueError(f"found tls with only {next(iter(tls))}; allowed: keyfile and certfile")
        balancer = _present(given.get("load_balancer") or {})
        return cls(
            policy,
            ReadinessProbe.from_config(given["readiness_probe"]),
            policy_name,
            balancer.get("stream_timeout_seconds", DEFAULT_STREAM_TIMEOUT_SECONDS),
            parse_port(given["ports"]) if "ports" in given else None,
            tls.get("keyfile"),
            tls.get("certfile"),
        )

    @classmethod
    def from_pool_config(cls, config: Mapping[str, Any]) -> ServiceSpec:
        """Read a mapping that ``fields.POOL`` accepts; raises ``ValueError`` for contradicting counts."""
        given = _present(config)
        if "workers" in given and ("min_workers" in given or "max_workers" in given):
            raise ValueError("found workers beside min_workers or max_workers; allowed: a fixed number or both bounds")
        if "max_workers" in given and "min_workers" not in given:
            raise ValueError("found max_workers without min_workers")
        policy = ReplicaPolicy(
            given.get("workers", given.get("min_workers", 1)),
            given.get("max_workers"),
            upscale_delay_seconds=given.get("upscale_delay_seconds", DEFAULT_UPSCALE_DELAY_SECONDS),
            downscale_delay_seconds=given.get("downscale_delay_seconds", DEFAULT_DOWNSCALE_DELAY_SECONDS),
            queue_length_threshold=given.get("queue_length_threshold", DEFAULT_QUEUE_LENGTH_THRESHOLD),
        )
        policy.check()
        return cls(policy, pool=True)

    def to_config(self) -> dict[str, Any]:
        """Return the mapping that ``from_service_config``, or for a pool ``from_pool_config``, reads back."""
        policy = self.replica_policy.to_config()
        if self.pool:
            least, most = policy.pop("min_replicas"), policy.pop("max_replicas", None)
            counts = {"workers": least} if most is None else {"min_workers": least, "max_workers": most}
            return {**counts, **policy}
        config: dict[str, Any] = {"replica_policy": policy}
        if self.readiness_probe is not None:
            config["readiness_probe"] = self.readiness_probe.to_config()
        if self.load_balancing_policy is not None:
            config["load_balancing_policy"] = self.load_balancing_policy
        config["load_balancer"] = {"stream_timeout_seconds": self.stream_timeout_seconds}
        if self.ports is not None:
            config["ports"] = self.ports
        if self.tls_keyfile is not None:
            config["tls"] = {"keyfile": self.tls_keyfile, "certfile": self.tls_certfile}
        return config


def _replica_policy(given: Mapping[str, Any]) -> ReplicaPolicy:
    if "replicas" in given:
        return ReplicaPolicy(given["replicas"])
    policy_config = _present(given["replica_policy"])
    if "min_replicas" not in policy_config:
        raise ValueError("found a replica_policy without 'min_replicas'")
    policy = ReplicaPolicy(**policy_config)
    policy.check()
    return policy


def _present(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value is not None}
