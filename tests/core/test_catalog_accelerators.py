"""One name for each accelerator, whatever a price list calls it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sky.core.catalog.accelerators import canonical, devices, known, spellings
from sky.core.model.accelerator_names import ACCELERATORS, VENDORS, vendor_of
from sky.core.model.accelerators import canonical_accelerator


@pytest.mark.parametrize(
    ("raw", "memory", "name"),
    [
        ("H100-SXM", None, "H100-SXM"), ("H100 SXM", None, "H100-SXM"), ("NVIDIA H100 80GB HBM3", 80, "H100"),
        ("T4G", None, "T4g"), ("T4g", None, "T4g"), ("Tesla T4", 16, "T4"), ("L40S", None, "L40S"),
        ("NVIDIA A100 80GB", 80, "A100-80GB"), ("A100", 80, "A100-80GB"), ("A100", 40, "A100"), ("A100", None, "A100"),
        ("A100_80GB", None, "A100-80GB"), ("A100-SXM4-80GB", None, "A100-80GB"), ("V100", 32, "V100-32GB"),
        ("Tesla V100-SXM2-16GB", 16, "V100"), ("RTX 4090", None, "RTX4090"), ("GeForce RTX 4090", 24, "RTX4090"),
        ("RTX A6000", 48, "RTXA6000"), ("AMD Instinct MI300X", 192, "MI300X"), ("Gaudi HL-205", None, "Gaudi"),
        ("tpu-v5e-8", None, "tpu-v5e-8"), ("TPU v5litepod-8", None, "tpu-v5e-8"), ("tpu-v5p-128", None, "tpu-v5p-128"),
        ("A100-80GB-640GB", None, None), ("GPU H", None, None), ("A10*1/12", None, None), ("", None, None),
        ("x" * 101, None, None), ("tpu-v9-8", None, None),
    ],
)  # fmt: skip
def test_spellings(raw, memory, name):
    assert canonical(raw, memory) == name


@given(st.sampled_from(sorted(ACCELERATORS)), st.sampled_from(["{}", "NVIDIA {}", " {} ", "Tesla {}"]))
def test_canonical_names_are_found_however_written(name, form):
    assert canonical(form.format(name.upper())) == name
    assert canonical(form.format(name.lower().replace("-", " "))) == name
    assert canonical_accelerator(name.lower()) == name


@given(st.text(max_size=120), st.none() | st.floats(0, 1000))
def test_any_text_is_a_known_name_or_none(raw, memory):
    found = canonical(raw, memory)
    assert found is None or known(found) is not None


def test_the_table_is_consistent():
    for name, each in ACCELERATORS.items():
        assert each.name == name
        assert each.vendor in VENDORS
        assert vendor_of(name) == each.vendor
        assert canonical(name, each.memory_gib) == name
    assert vendor_of("tpu-v5e-8") == "google"
    assert vendor_of("H999") is None
    assert known("H999") is None


def test_every_spelling_leads_to_the_name():
    for spelling, name in spellings().items():
        assert canonical(spelling) == name
        assert spelling == spelling.lower()


@pytest.mark.parametrize(
    ("name", "count", "number"), [("H100", 8, 8), ("tpu-v5e-8", 1, 8), ("tpu-v4-64", 2, 128), ("tpu-x", 1, 1)]
)
def test_a_slice_of_tpus_is_many_devices(name, count, number):
    assert devices(name, count) == number
