"""Shapes that are read from the names of sizes, beside what a public table says of them."""

import csv
import lzma
import os
from pathlib import Path

import pytest

from sky.providers.azure.sizes import Shape, shape

PUBLIC = Path(os.environ.get("SKY_TEST_DATA") or Path(__file__).parents[3] / "shared" / "catalog-data") / "specs.csv.xz"


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ("Standard_D4s_v5", Shape(4, 16, "x86_64", "Dsv5")),
        ("Standard_D96as_v6", Shape(96, 384, "x86_64", "Dasv6")),
        ("Standard_D8pls_v6", Shape(8, 16, "arm64", "Dplsv6")),
        ("Standard_E48s_v5", Shape(48, 384, "x86_64", "Esv5")),
        ("Standard_F72s_v2", Shape(72, 144, "x86_64", "Fsv2")),
        ("Standard_F4ams_v6", Shape(4, 32, "x86_64", "Famsv6")),
    ],
)
def test_the_name_of_a_common_size_tells_its_shape(size, told):
    assert shape(size) == told


@pytest.mark.parametrize(
    "size",
    ["Standard_E96s_v5", "Standard_E64s_v3", "Standard_D64ps_v5", "Standard_E32ps_v5", "Standard_D4_v2",
     "Standard_DS4_v2",
     "Standard_D4ds_v5", "Standard_DC4s_v3", "Standard_E4-2s_v5", "Standard_NC24ads_A100_v4", "Standard_F4s", "",
     "Standard_D0s_v5", "Standard_M128s_v2", "Standard_B4ms"],
)  # fmt: skip
def test_a_size_that_breaks_its_rule_is_not_guessed_at(size):
    assert shape(size) is None


@pytest.mark.skipif(not PUBLIC.exists(), reason="the public table of shapes is not here")
def test_names_and_the_public_table_agree():
    with lzma.open(PUBLIC, "rt") as table:
        rows = [row for row in csv.DictReader(table) if row["cloud"] == "azure"]
    compared = 0
    for row in rows:
        if told := shape("Standard_" + row["instance"].removeprefix("Standard_")):
            compared += 1
            assert (told.cpus, told.memory_gib, told.arch) == (int(row["vcpus"]), float(row["ram_gib"]), row["arch"])
            assert row["accelerators"] == "0"
    assert compared > 150
