"""Amounts as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sky.core.model import quantities as q


@pytest.mark.parametrize(
    ("read", "value", "result"),
    [
        (q.parse_cpus, 4, "4"),
        (q.parse_cpus, "4.0+", "4+"),
        (q.parse_cpus, 0.5, "0.5"),
        (q.parse_memory, "16GB+", "16+"),
        (q.parse_memory, "512mb", "0.5"),
        (q.parse_memory, "2TiB", "2048"),
        (q.parse_memory, "4x", "4x"),
        (q.parse_size_gb, "1TB", 1024),
        (q.parse_size_gb, 256.0, 256),
        (q.parse_size_gb, "2048MB", 2),
        (q.parse_minutes, "90s", 2),
        (q.parse_minutes, 5, 5),
        (q.parse_minutes, "1w", 10080),
        (q.parse_minutes, "1.5h", 90),
        (q.parse_duration_seconds, "30s", 30.0),
        (q.parse_duration_seconds, 30, 30.0),
        (q.parse_port, "8080", 8080),
        (q.parse_ports, "80, 22,23", ("22-23", "80")),
        (q.parse_ports, [8085, "8080-8090", 8091], ("8080-8091",)),
    ],
)
def test_forms(read, value: object, result: object) -> None:  # type: ignore[no-untyped-def]
    assert read(value) == result


@pytest.mark.parametrize(
    ("read", "value"),
    [(q.parse_cpus, one) for one in ("", "+", "x", "-1", "inf", "1_0", True, "9" * 100)]
    + [(q.parse_memory, one) for one in ("", "x", "4xx", "GB", True, "1e5", "9" * 100)]
    + [(q.parse_size_gb, one) for one in ("", "1.5", "500MB", True, -1, "1 light year")]
    + [(q.parse_duration_seconds, one) for one in ("", "m", "-1", "1y", True, "1h30m")]
    + [(q.parse_port, one) for one in ("80-81", 0, 65536, True, "http", 1.5)],
)
def test_what_is_refused(read, value: object) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="found"):
        read(value)


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 20)), min_size=1))
def test_merged_ports_are_the_same_ports(spans: list[tuple[int, int]]) -> None:
    merged = q.parse_ports([f"{first}-{first + more}" for first, more in spans])
    wanted = {port for first, more in spans for port in range(first, first + more + 1)}
    found = [port for one in merged for port in range(int(one.split("-")[0]), int(one.split("-")[-1]) + 1)]
    assert sorted(wanted) == found
    assert q.parse_ports(list(merged)) == merged
