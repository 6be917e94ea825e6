"""Accelerators as people ask for them."""

import pytest

from sky.core.model.accelerators import AcceleratorRequest as Request
from sky.core.model.accelerators import parse_accelerators


@pytest.mark.parametrize(
    ("value", "requests"),
    [
        ("h100", [Request("H100")]),
        ("a100-80gb:8", [Request("A100-80GB", 8)]),
        ("H100:0.5", [Request("H100", 0.5)]),
        ("H100:2.0", [Request("H100", 2)]),
        ("Novel-X1:4", [Request("Novel-X1", 4)]),
        ("Radeon MI25", [Request("Radeon MI25")]),
        ("TPU-v5litepod-8", [Request("tpu-v5litepod-8")]),
        ("80GB+", [Request("80GB+", 1, 80)]),
        ("16gb:2", [Request("16GB", 2, 16, 16)]),
        ("NVIDIA:24GB+:2", [Request("nvidia:24GB+", 2, 24, None, "nvidia")]),
        ("amd:64GB", [Request("amd:64GB", 1, 64, 64, "amd")]),
        ({"nvidia:24GB+": 2}, [Request("nvidia:24GB+", 2, 24, None, "nvidia")]),
        ({"H100": 8, "L4:2": None, "T4": None}, [Request("H100", 8), Request("L4", 2), Request("T4")]),
        (["H100", {"L4": 2}], [Request("H100"), Request("L4", 2)]),
        ({"L4", "A100"}, [Request("A100"), Request("L4")]),
    ],
)
def test_forms(value: object, requests: list[Request]) -> None:
    assert list(parse_accelerators(value)) == requests
    for request in requests:
        assert list(parse_accelerators(str(request))) == [request]
        assert list(parse_accelerators({request.name: request.count})) == [request]


@pytest.mark.parametrize(
    "value",
    [
        "",
        ":",
        "H100:",
        ":8",
        "H100:-1",
        "H100:nan",
        "H100:inf",
        "-x",
        "80GB++",
        {},
        [],
        {"H100:8": 2},
        {"H100": True},
        [None],
        8,
    ],
)
def test_what_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="found"):
        parse_accelerators(value)
