"""The user's folder of overrides: read when it changes, told by file and line when it is wrong."""

import os

import pytest

from sky.core.catalog.rows import gather
from sky.core.model.catalog import InstanceType, Market, Price, Quality, Query
from sky.store.catalog.build import build
from sky.store.catalog.override_files import OverrideFiles
from sky.store.catalog.read import CatalogFile

TOML = """
# ours
[[price]]
infra = "aws"
multiplier = 0.9

[[deny]]
infra = "gcp"

[[price]]
infra = "aws/us-east-1"
price = 2
"""


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "catalog.d"
    made.mkdir()
    return made


def test_no_folder_is_no_rule(tmp_path):
    assert OverrideFiles(tmp_path / "nothing").read().prices == ()


def test_files_are_read_in_the_order_of_their_names(folder):
    (folder / "20.toml").write_text(TOML)
    (folder / "10.csv").write_text("cloud,region,zone,instance_type,market,price\n\naws,,,m5.large,any,0.05\n")
    (folder / "README.md").write_text("not a rule")
    made = OverrideFiles(folder).read()
    assert [rule.source for rule in made.prices] == [
        f"{folder}/10.csv:3", f"{folder}/20.toml:3", f"{folder}/20.toml:10",
    ]  # fmt: skip
    assert made.denials[0].source == f"{folder}/20.toml:7"


def test_tables_written_in_line_are_numbered(folder):
    (folder / "a.toml").write_text('deny = [{infra = "aws"}, {infra = "gcp"}]')
    assert [rule.source for rule in OverrideFiles(folder).read().denials] == [
        f"{folder}/a.toml#1", f"{folder}/a.toml#2",
    ]  # fmt: skip


def test_a_change_is_noticed_and_nothing_else_is_read_again(folder):
    files = OverrideFiles(folder)
    path = folder / "a.toml"
    path.write_text('[[deny]]\ninfra = "aws"\n')
    first = files.read()
    assert files.read() is first
    path.write_text('[[deny]]\ninfra = "aws"\n[[deny]]\ninfra = "gcp"\n')
    os.utime(path, ns=(1, 1))
    assert len(files.read().denials) == 2
    path.unlink()
    assert files.read().denials == ()


def test_the_catalog_tells_known_types_from_new_ones(folder, tmp_path):
    (folder / "a.csv").write_text(
        "cloud,region,zone,instance_type,market,price,cpus,memory\naws,r1,,m.4,any,0.5,4,16\nours,,,box,any,0,4,16\n"
    )
    kind = InstanceType("aws", "m.4", 4.0, 16.0)
    price = Price("aws", "m.4", "r1", None, Market.ON_DEMAND, 1.0, Quality.LIST, 1.0, "u")
    build(tmp_path / "c.sqlite", [gather("aws", [kind, price])])
    catalog = CatalogFile.open(tmp_path / "c.sqlite")
    files = OverrideFiles(folder)
    assert len(files.read().extra) == 2
    made = files.read(catalog)
    assert [each.instance_type for each in made.extra] == ["box"]
    assert [made.price_of(each).price_hourly for each in catalog.offers(Query())] == [0.5]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.toml", b"[[price]\n", r"a\.toml: .*line 1"),
        ("a.toml", b"[price]\ninfra = 'aws'\n", r"found 'price' outside of a table; write \[\[price\]\]"),
        ("a.toml", b"\xff\xfe", "no UTF-8"),
        ("a.toml", b"[[deny]]\ninfra = 'aws'\n\n[[price]]\ninfra = 'aws'\n", r"a\.toml:4: found neither"),
        ("a.csv", b"cloud,cloud\n", "a column twice"),
        ("a.csv", b"cloud,instance_type,market,price\naws,x,any\n", r"a\.csv:2: found 3 cells"),
        ("a.csv", b'cloud,instance_type,market,price\naws,"x,any,1\n', r"a\.csv:2"),
        ("a.csv", b"cloud,instance_type,market,price\naws,x,any,-1\n", r"a\.csv:2: found price"),
    ],
)
def test_mistakes_are_told_with_file_and_line(folder, name, content, words):
    (folder / name).write_bytes(content)
    files = OverrideFiles(folder)
    for _ in range(2):
        with pytest.raises(ValueError, match=words):
            files.read()
