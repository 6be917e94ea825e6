"""The seed: facts read strictly, Amazon's record joined to them, and the catalog file that comes of both."""

import gzip
import importlib.util
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from sky.core.model.catalog import Market, Query
from sky.store.catalog import descriptions, facts, seed
from sky.store.catalog.facts import FactsError
from sky.store.catalog.generations import Generations

ROOT = Path(__file__).parents[2]

FACTS = """
[cloud]
name = "aws"
title = "Amazon"
home = "us-east-1"
described_by = "moto"

[[source]]
id = "list"
url = "https://prices.example/list"
as_of = 2026-01-19
quality = "list"

[[place]]
region = "us-east-1"
country = "US"
continent = "NA"

[[family]]
name = "m5"
memory_gib_per_cpu = 4
prefix = "m5."
sizes = { large = 2, xlarge = 4 }

[[price]]
family = "m5"
regions = ["us-east-1"]
source = "list"
usd_per_cpu = 0.048

[[family]]
name = "p"
columns = ["name", "cpus", "memory_gib", "accelerator", "count", "accelerator_memory_gib", "usd", "spot_usd"]
rows = [["p4d.24xlarge", 96, 1152, "A100", 8, 40, 21.96, "-"]]

[[price]]
family = "p"
regions = ["us-east-1"]
source = "list"

[[egress]]
to = "internet"
usd_per_gb = 0.09
source = "list"
"""


def described(name, cpus, gib, *, arch="x86_64", usage=("on-demand", "spot"), **more):
    return {
        "InstanceType": name,
        "VCpuInfo": {"DefaultVCpus": cpus},
        "MemoryInfo": {"SizeInMiB": gib * 1024},
        "ProcessorInfo": {"SupportedArchitectures": [arch]},
        "SupportedUsageClasses": list(usage),
        "BareMetal": name.endswith(".metal"),
        **more,
    }


def gpus(name, count, mib, **more):
    return {"GpuInfo": {"Gpus": [{"Name": name, "Count": count, "MemoryInfo": {"SizeInMiB": mib}, **more}]}}


TYPES = [
    described("m5.large", 2, 8),
    described("m5.metal", 96, 384),
    described("m6g.large", 2, 8, arch="arm64"),
    described("p4d.24xlarge", 96, 1152, usage=("capacity-block", "on-demand", "spot"), **gpus("A100", 8, 40960)),
    described("p4de.24xlarge", 96, 1152, **gpus("A100", 8, 81920)),
    described("p5e.48xlarge", 192, 2048, usage=("capacity-block", "on-demand"), **gpus("H200", 8, 144384)),
    described("g6f.large", 2, 8, **gpus("L4", 0, 2861, GpuPartitionSize=0.125, LogicalGpuCount=1)),
    described("x1.odd", 4, 8, **gpus("Unheard Of", 1, 1024)),
    described(
        "trn2.48xlarge", 192, 2048,
        NeuronInfo={"NeuronDevices": [{"Name": "Trainium2", "Count": 16, "MemoryInfo": {"SizeInMiB": 524288}}]},
    ),
]  # fmt: skip
DISKS = {"nvme": ("ssd", "required"), "ssd": ("ssd", "unsupported"), "hdd": ("hdd", "required")}
ZONES = {
    "us-east-1": {"us-east-1a": ["m5.large", "p4d.24xlarge", "x1.odd"], "us-east-1b": ["m5.large", "p5e.48xlarge"]},
    "eu-west-1": {"eu-west-1a": ["m5.large", "m6g.large"]},
}
IDS = {
    "us-east-1": {"use1-az4": ["m5.large", "p5e.48xlarge"], "use1-az2": ["m5.large", "p4d.24xlarge", "x1.odd"]},
    "eu-west-1": {"euw1-az1": ["m5.large"]},
}


def packed(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(json.dumps(value).encode()))


@pytest.fixture
def record(tmp_path):
    """Amazon's record in the form of the package, with types and zones of our own."""
    folder = tmp_path / "resources"
    packed(folder / "instance_types.json.gz", {each["InstanceType"]: each for each in TYPES})
    for kind, told in (("availability-zone", ZONES), ("availability-zone-id", IDS)):
        for region, zones in told.items():
            rows = [{"InstanceType": name, "Location": zone} for zone, names in zones.items() for name in names]
            packed(folder / "instance_type_offerings" / kind / f"{region}.json.gz", rows)
    return folder


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "facts"
    made.mkdir()
    (made / "aws.toml").write_text(FACTS)
    return made


def compiled(tmp_path, folder, record):
    out = tmp_path / "seed.sqlite.z"
    seed.compile_seed(folder, out, record=record)
    return Generations(tmp_path / "generations", seed=out).reader()


# --- facts -----------------------------------------------------------------------------------------------------------


def test_a_linear_family_is_written_once(folder):
    read = facts.read(folder / "aws.toml")
    assert {price.instance_type: price.price for price in read.prices if price.instance_type.startswith("m5")} == {
        "m5.large": 0.096, "m5.xlarge": 0.192,
    }  # fmt: skip
    assert (read.types["m5.xlarge"].cpus, read.types["m5.xlarge"].memory_gib) == (4, 16)


def test_a_dash_leaves_a_cell_open(folder):
    prices = facts.read(folder / "aws.toml").prices
    assert [price.market for price in prices if price.instance_type == "p4d.24xlarge"] == [Market.ON_DEMAND]


def test_rates_are_added_up(folder):
    path = folder / "aws.toml"
    path.write_text(
        FACTS.replace("usd_per_cpu = 0.048", "usd_per_cpu = 0.01\nusd_per_gib = 0.001\nusd_per_machine = 1")
    )
    assert facts.read(path).prices[0].price == pytest.approx(2 * 0.01 + 8 * 0.001 + 1)


@pytest.mark.parametrize(
    ("wrong", "right", "words"),
    [
        ("https://prices.example/list", "http://prices.example/list", ["aws.toml [[source]] #1", "https://"]),
        ('quality = "list"', 'quality = "hearsay"', ["hearsay", "list, live, derived or estimate"]),
        ('source = "list"\nusd_per_cpu', 'source = "lst"\nusd_per_cpu', ["[[price]] #1", "'lst'", "known are list"]),
        ('family = "m5"', 'family = "m6"', ["[[price]] #1", "'m6'", "m5, p"]),
        ("usd_per_cpu", "usd_pro_cpu", ["[[price]] #1", "'usd_pro_cpu'", "usd_per_cpu"]),
        ('regions = ["us-east-1"]', 'regions = ["us-moon-1"]', ["us-moon-1", "[[place]]"]),
        ("usd_per_cpu = 0.048", "usd_per_cpu = 0", ["m5.large", "above zero"]),
        ("usd_per_cpu = 0.048", 'usd_per_cpu = "dear"', ["[[price]] #1", "'dear'", "int or float"]),
        ("1152,", "", ["[[family]] #2", "columns"]),
        ('name = "aws"', 'name = "gcp"', ["aws.toml [cloud]", "'gcp'"]),
        ("usd_per_gb = 0.09", "usd_per_gb = -1", ["[[egress]] #1", "-1"]),
        ("[[egress]]", "[[egres]]", ["'egres'", "egress"]),
        ("[cloud]", "[cloud", ["aws.toml", "TOML"]),
        ('described_by = "moto"', 'described_by = "hearsay"', ["aws.toml [cloud]", "'hearsay'", "moto"]),
        ('home = "us-east-1"', 'home = "us-moon-1"', ["us-moon-1", "[[place]]"]),
    ],
)
def test_a_mistake_names_its_place_and_what_is_allowed(folder, wrong, right, words):
    path = folder / "aws.toml"
    assert wrong in FACTS
    path.write_text(FACTS.replace(wrong, right))
    with pytest.raises(FactsError) as raised:
        facts.read(path)
    assert [word for word in words if word not in str(raised.value)] == []


def test_two_prices_for_one_thing_are_a_mistake(folder):
    path = folder / "aws.toml"
    more = '\n[[price]]\nfamily = "m5"\nregions = ["us-east-1"]\nsource = "list"\nusd_per_cpu = 0.05\n'
    path.write_text(FACTS + more)
    with pytest.raises(FactsError, match=r"m5\.large us-east-1 on_demand has two prices"):
        facts.read(path)


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(FactsError, match="no file of facts"):
        facts.read_all(tmp_path)


def test_a_fact_that_the_rules_doubt_fails_the_build(tmp_path, folder):
    (folder / "aws.toml").write_text(FACTS.replace("21.96", "2196.0"))
    with pytest.raises(FactsError, match=r"not believed.*p4d\.24xlarge"):
        seed.compile_seed(folder, tmp_path / "seed.sqlite.z", record=None)
    assert not (tmp_path / "seed.sqlite.z").exists()


# --- Amazon's record -------------------------------------------------------------------------------------------------


def test_devices_get_our_names_counts_and_memory(record):
    found = {each.name: each for each in descriptions.types(record, "aws")}
    assert [
        (found[name].accelerator, found[name].accelerator_count, found[name].accelerator_memory_gib)
        for name in ("p4d.24xlarge", "p4de.24xlarge", "g6f.large", "trn2.48xlarge", "m5.large")
    ] == [("A100", 8, 40), ("A100-80GB", 8, 80), ("L4", 0.125, 22.352), ("Trainium2", 16, 96), (None, 0, None)]
    assert found["m6g.large"].arch == "arm64"
    assert "metal" in found["m5.metal"].features


@pytest.mark.parametrize(("kind", "told"), DISKS.items())
def test_disks_that_are_reached_by_nvme_are_told_apart(tmp_path, kind, told):
    disks = {"TotalSizeInGB": 900, "Disks": [{"SizeInGB": 900, "Count": 1, "Type": told[0]}], "NvmeSupport": told[1]}
    packed(tmp_path / "instance_types.json.gz", {"i": described("i", 4, 32, InstanceStorageInfo=disks)})
    (made,) = descriptions.types(tmp_path, "aws")
    assert (made.local_disk_gb, made.local_disk_kind) == (900, kind)


def test_zones_have_the_id_that_offers_the_same(record):
    assert {place.zone: place.zone_id for place in descriptions.places(record, "aws") if place.zone} == {
        "us-east-1a": "use1-az2", "us-east-1b": "use1-az4", "eu-west-1a": None,
    }  # fmt: skip


def test_what_has_no_list_price_and_capacity_blocks_is_reserved_only(folder, record):
    types = seed.judged(facts.read_all(folder), record)[0].types
    assert "reservation_only" in types["p5e.48xlarge"].features
    assert "reservation_only" not in types["p4d.24xlarge"].features


def test_zones_tell_the_markets_on_which_they_sell(folder, record):
    (rows,) = seed.judged(facts.read_all(folder), record)
    markets = {}
    for price in rows.unpriced:
        markets.setdefault((price.instance_type, price.zone), set()).add(price.market)
    assert markets["m5.large", "us-east-1a"] == {Market.ON_DEMAND, Market.SPOT}
    assert markets["p5e.48xlarge", "us-east-1b"] == {Market.ON_DEMAND}


def test_a_device_without_a_canonical_name_is_left_out(folder, record):
    (rows,) = seed.judged(facts.read_all(folder), record)
    assert "x1.odd" not in rows.types
    assert not [price for price in rows.unpriced if price.instance_type == "x1.odd"]


def test_without_the_package_the_command_says_what_to_do(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(seed, "RECORD_RELEASE", "0.0.0")
    assert seed.main(["--facts", str(ROOT / "facts"), "--out", str(tmp_path / "s")]) == 1
    told = capsys.readouterr().err
    assert "moto==0.0.0" in told and "ALTOSTRATUS_SEED=facts" in told


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_regional_price_holds_in_every_zone_that_sells_the_type(tmp_path, folder, record):
    reader = compiled(tmp_path, folder, record)
    offers = list(reader.offers(Query(instance_type="m5.large")))
    assert sorted((offer.region, offer.zone, offer.price_hourly) for offer in offers) == [
        ("us-east-1", "us-east-1a", 0.096), ("us-east-1", "us-east-1b", 0.096),
    ]  # fmt: skip


def test_what_is_sold_without_a_known_price_is_listed_and_not_offered(tmp_path, folder, record):
    reader = compiled(tmp_path, folder, record)
    listed = {each.region: each.price for each in reader.listings(Query(instance_type="m5.large"))}
    assert listed == {"us-east-1": 0.096, "eu-west-1": None}
    assert [each.region for each in reader.listings(Query(instance_type="m6g.large"))] == ["eu-west-1"]
    assert list(reader.offers(Query(instance_type="m6g.large"))) == []


def test_the_file_says_where_its_rows_are_from(tmp_path, folder, record):
    reader = compiled(tmp_path, folder, record)
    assert {source.url: source.license for source in reader.sources()} == {
        "https://prices.example/list": None, seed.RECORD_URL: "Apache-2.0",
    }  # fmt: skip
    assert [(each.to, each.usd_per_gb) for each in reader.egress()] == [("internet", 0.09)]
    assert list(reader.quarantined()) == []


def test_equal_inputs_give_equal_bytes(tmp_path, folder, record):
    for name in ("one", "two"):
        seed.compile_seed(folder, tmp_path / name, record=record)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_our_own_facts_answer_questions(tmp_path):
    reader = compiled(tmp_path, ROOT / "facts", None)
    cheapest = next(iter(reader.offers(Query(accelerator="A100", accelerator_count=8, market=Market.ON_DEMAND))))
    assert 5 < cheapest.price_hourly < 25
    assert len({place.cloud for place in reader.places()}) == 27
    (kind,) = reader.types("p5.48xlarge", "aws")
    assert (kind.accelerator, kind.accelerator_count, kind.accelerator_memory_gib) == ("H100", 8, 80)


def test_the_command_for_developers(tmp_path):
    out = tmp_path / "seed.sqlite.z"
    done = subprocess.run(
        [sys.executable, "-m", "sky.store.catalog.seed", "--facts-only", "--facts", ROOT / "facts", "--out", out],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert zlib.decompress(out.read_bytes()).startswith(b"SQLite format 3\0")
    assert out.stat().st_size < 700_000


# --- the build -------------------------------------------------------------------------------------------------------


@pytest.fixture
def hook(tmp_path, monkeypatch):
    """The build hook over a tree of its own, with our facts and a seed that is newer than they."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts" / "aws.toml").write_text(FACTS)
    monkeypatch.setattr(made, "ROOT", tmp_path)
    monkeypatch.setattr(made, "SEED", tmp_path / "seed.sqlite.z")
    monkeypatch.delenv("ALTOSTRATUS_SEED", raising=False)
    made.SEED.write_bytes(b"compiled")
    return made


def wanted(hook):
    return hook.CustomBuildHook.dependencies(object())


def test_a_build_asks_for_moto_only_to_compile(hook, monkeypatch):
    monkeypatch.setattr(hook, "moto", lambda: "moto==1.2.3")
    assert wanted(hook) == []
    os.utime(hook.SEED, (0, 0))
    assert wanted(hook) == ["moto==1.2.3"]
    hook.SEED.unlink()
    assert wanted(hook) == ["moto==1.2.3"]
    monkeypatch.setenv("ALTOSTRATUS_SEED", "facts")
    assert wanted(hook) == []


def test_a_tree_without_facts_compiles_nothing(hook):
    hook.SEED.unlink()
    (hook.ROOT / "facts" / "aws.toml").unlink()
    (hook.ROOT / "facts").rmdir()
    assert not hook.stale()


def test_the_hook_pins_the_release_that_the_compiler_wants(hook, monkeypatch):
    monkeypatch.setattr(hook, "SEED", ROOT / "src" / "sky" / "store" / "catalog" / "seed.sqlite.z")
    assert hook.moto() == f"moto=={seed.RECORD_RELEASE}"


def test_what_was_compiled_without_moto_is_compiled_again(hook):
    hook.SEED.unlink()
    hook.compile_here("facts")
    assert zlib.decompress(hook.SEED.read_bytes()).startswith(b"SQLite format 3")
    assert hook.stale()


def test_another_word_for_the_variable_is_refused(hook):
    with pytest.raises(SystemExit, match="'fact'; allowed are facts and skip"):
        hook.compile_here("fact")
