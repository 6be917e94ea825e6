"""Services and pools: defaults, and counts that contradict each other."""

import pytest

from sky.core.model.services import ServiceSpec

PROBE = {"readiness_probe": "/health"}
BOTH = {"min_replicas": 1, "max_replicas": 3}


def test_defaults() -> None:
    spec = ServiceSpec.from_service_config({**PROBE, "replicas": 2})
    probe = spec.readiness_probe
    assert probe is not None
    assert (probe.initial_delay_seconds, probe.timeout_seconds, probe.endpoint_probe_interval_seconds) == (1200, 15, 10)
    assert (spec.replica_policy.upscale_delay_seconds, spec.replica_policy.downscale_delay_seconds) == (300, 1200)
    assert spec.stream_timeout_seconds == 120
    assert ServiceSpec.from_pool_config({"workers": 2}).replica_policy.queue_length_threshold == 1


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"replicas": 1}, "without 'readiness_probe'"),
        (PROBE, "found neither; allowed: exactly one of replicas, replica_policy"),
        ({**PROBE, "replicas": 1, "replica_policy": {"min_replicas": 1}}, "found replicas and replica_policy"),
        ({"readiness_probe": "health", "replicas": 1}, "a path that begins with /"),
        ({"readiness_probe": {"timeout_seconds": 1}, "replicas": 1}, "a path that begins with /"),
        ({"readiness_probe": {"path": "/", "post_data": "{"}, "replicas": 1}, "not a JSON object"),
        ({**PROBE, "replica_policy": {"max_replicas": 1}}, "without 'min_replicas'"),
        ({**PROBE, "replica_policy": {"min_replicas": 3, "max_replicas": 1}}, "a most of 1 below the least of 3"),
        ({**PROBE, "replica_policy": BOTH}, "without target_qps_per_replica"),
        ({**PROBE, "replica_policy": {"min_replicas": 1, "target_qps_per_replica": 1}}, "without max_replicas"),
        ({**PROBE, "replica_policy": {**BOTH, "target_qps_per_replica": 0}}, "a number above 0"),
        ({**PROBE, "replica_policy": {**BOTH, "target_qps_per_replica": {"H100": 1}}}, "need each other"),
        ({**PROBE, "replicas": 1, "load_balancing_policy": "instance_aware_least_load"}, "need each other"),
        ({**PROBE, "replicas": 1, "ports": "80-90"}, "a single port"),
        ({**PROBE, "replicas": 1, "tls": {"keyfile": "k"}}, "only keyfile"),
    ],
)
def test_services_that_are_refused(config: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ServiceSpec.from_service_config(config)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"workers": 1, "max_workers": 2}, "workers beside min_workers or max_workers"),
        ({"max_workers": 2}, "max_workers without min_workers"),
        ({"min_workers": 3, "max_workers": 2}, "a most of 2 below"),
    ],
)
def test_pools_that_are_refused(config: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ServiceSpec.from_pool_config(config)
