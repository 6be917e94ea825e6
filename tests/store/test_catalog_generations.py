"""The newest whole file answers; readers go on while another one takes its place; the seed lies underneath."""

import os
import sqlite3
import stat
import threading
import zlib

import pytest

from sky.core.catalog.rows import gather
from sky.core.model.catalog import InstanceType, Market, Price, Quality, Query, Source
from sky.store.catalog.build import build
from sky.store.catalog.generations import Generations
from sky.store.catalog.read import CatalogFile, Unusable


def rows(price, fetched=100.0, count=1):
    made = [InstanceType("one", "m.4", 4.0, 16.0), Source("one", "https://one.example", fetched)]
    made += [
        Price("one", "m.4", f"r{number}", None, Market.ON_DEMAND, price, Quality.LIST, fetched, "https://one.example")
        for number in range(count)
    ]
    return [gather("one", made)]


def publish(generations, price, **more):
    return generations.publish(lambda path: build(path, rows(price, **more)))


def prices(generations):
    return [offer.price_hourly for offer in generations.reader().offers(Query())]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "catalog"


@pytest.fixture
def seed(tmp_path):
    build(tmp_path / "seed.sqlite", rows(5.0, fetched=50.0))
    packed = tmp_path / "seed.sqlite.z"
    packed.write_bytes(zlib.compress((tmp_path / "seed.sqlite").read_bytes(), 9))
    return packed


def test_the_pointer_chooses_and_two_files_are_kept(folder):
    generations = Generations(folder, None)
    names = [publish(generations, float(number)) for number in (1, 2, 3)]
    assert prices(generations) == [3.0]
    assert generations.reader().generation == names[-1]
    assert sorted(path.stem for path in folder.glob("gen-*")) == sorted(names[1:])
    assert {path.name for path in folder.iterdir()} == {"current", *(f"{name}.sqlite" for name in names[1:])}


def test_a_file_that_is_cut_short_while_it_is_open_is_left_for_another(folder, seed):
    generations = Generations(folder, seed)
    name = publish(generations, 1.0)
    assert prices(generations) == [1.0]
    os.truncate(folder / f"{name}.sqlite", 8192)
    assert prices(generations) == [5.0], "the seed is what is left"
    assert any(name in told for told in generations.passed_over)
    publish(generations, 2.0)
    assert prices(generations) == [2.0]


def test_what_a_killed_writer_left_is_removed_and_what_is_being_written_is_not(folder):
    folder.mkdir(parents=True, exist_ok=True)
    old, young = folder / ".gen.left.new", folder / ".gen.busy.new"
    for path in (old, young):
        path.touch()
    os.utime(old, (1.0, 1.0))
    publish(Generations(folder, None), 1.0)
    assert (old.exists(), young.exists()) == (False, True)


def test_the_same_content_has_the_same_name(folder, tmp_path):
    assert publish(Generations(folder, None), 1.0) == publish(Generations(tmp_path / "other", None), 1.0)


def test_another_process_that_publishes_is_noticed(folder):
    here, there = Generations(folder, None), Generations(folder, None)
    publish(there, 1.0)
    assert prices(here) == [1.0]
    first = here.reader()
    assert here.reader() is first
    publish(there, 2.0)
    assert prices(here) == [2.0]
    # Who still asks the old generation is answered from it, though its file may be gone.
    publish(there, 3.0)
    publish(there, 4.0)
    assert [offer.price_hourly for offer in first.offers(Query())] == [1.0]


def test_readers_never_see_half_a_file(folder):
    publish(Generations(folder, None), 1.0, count=300)
    stop, failures, seen = threading.Event(), [], set()

    def read():
        generations = Generations(folder, None)
        while not stop.is_set():
            try:
                found = prices(generations)
                seen.add(found[0])
                if len(found) != 300 or len(set(found)) != 1:
                    failures.append(found)
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(2, 12):
        publish(Generations(folder, None), float(number), count=300)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert seen <= {float(number) for number in range(1, 12)}
    assert seen


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-4096]), "not whole"),
        (lambda path: path.write_bytes(path.read_bytes()[:50]), "not a catalog file"),
        (lambda path: path.write_bytes(b""), "not a catalog file"),
        (lambda path: path.write_text("garbage" * 100), "not a catalog file"),
        (lambda path: path.unlink(), "No such file"),
    ],
)
def test_a_broken_generation_is_passed_over_for_the_one_before(folder, damage, words):
    generations = Generations(folder, None)
    publish(generations, 1.0)
    damage(folder / f"{publish(generations, 2.0)}.sqlite")
    again = Generations(folder, None)
    assert prices(again) == [1.0]
    assert any(words in told for told in again.passed_over)


def test_a_foreign_database_and_another_version_are_passed_over(folder):
    generations = Generations(folder, None)
    publish(generations, 1.0)
    newest = folder / f"{publish(generations, 2.0)}.sqlite"
    connection = sqlite3.connect(newest)
    connection.execute("pragma user_version = 99")
    connection.close()
    again = Generations(folder, None)
    assert prices(again) == [1.0]
    assert "version 99" in again.passed_over[0]
    newest.unlink()
    foreign = sqlite3.connect(newest)
    foreign.execute("create table other(id)")
    foreign.close()
    assert prices(Generations(folder, None)) == [1.0]


@pytest.mark.parametrize("text", ["", "gen-../../etc x\n", "\0\0", "nothing"])
def test_a_pointer_that_makes_no_sense_is_passed_over(folder, text):
    publish(Generations(folder, None), 1.0)
    (folder / "current").write_text(text)
    assert prices(Generations(folder, None)) == [1.0]


def test_nothing_to_read_says_what_to_do(folder):
    with pytest.raises(Unusable, match="sky catalog refresh"):
        Generations(folder, None).reader()


def test_the_seed_is_expanded_once(folder, seed):
    assert prices(Generations(folder, seed)) == [5.0]
    (made,) = folder.glob("gen-*.sqlite")
    before = made.stat().st_mtime_ns
    again = Generations(folder, seed)
    assert prices(again) == [5.0]
    assert made.stat().st_mtime_ns == before
    assert again.reader().generation == made.stem


def test_a_refresh_is_newer_than_the_seed_until_another_seed_is(folder, seed, tmp_path):
    generations = Generations(folder, seed)
    generations.reader()
    publish(generations, 6.0, fetched=100.0)
    assert prices(Generations(folder, seed)) == [6.0]
    build(tmp_path / "new.sqlite", rows(7.0, fetched=200.0))
    seed.write_bytes(zlib.compress((tmp_path / "new.sqlite").read_bytes()))
    assert prices(Generations(folder, seed)) == [7.0]


def test_a_refresh_stays_when_the_package_brings_an_older_seed(folder, seed, tmp_path):
    publish(Generations(folder, seed), 6.0, fetched=100.0)
    build(tmp_path / "new.sqlite", rows(7.0, fetched=80.0))
    seed.write_bytes(zlib.compress((tmp_path / "new.sqlite").read_bytes()))
    assert prices(Generations(folder, seed)) == [6.0]
    assert prices(Generations(folder, seed)) == [6.0]


@pytest.mark.parametrize("content", [b"", b"no zlib", zlib.compress(b"no database")])
def test_a_broken_seed_is_passed_over(folder, seed, content):
    publish(Generations(folder, seed), 6.0)
    seed.write_bytes(content)
    assert prices(Generations(folder, seed)) == [6.0]
    with pytest.raises(Unusable):
        Generations(folder / "empty", seed).reader()


def test_a_truncated_seed_is_not_half_a_catalog(folder, seed):
    seed.write_bytes(seed.read_bytes()[:-100])
    with pytest.raises(Unusable):
        Generations(folder, seed).reader()


def test_where_nothing_can_be_written_the_seed_is_read_into_memory(tmp_path, seed):
    # A file in the place of the folder cannot be written below, by root neither.
    (tmp_path / "file").write_text("")
    generations = Generations(tmp_path / "file" / "catalog", seed)
    assert prices(generations) == [5.0]
    assert generations.reader() is generations.reader()
    assert any("read into memory" in told for told in generations.passed_over)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_read(folder, seed):
    publish(Generations(folder, seed), 6.0)
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert prices(Generations(folder, seed)) == [6.0]
    finally:
        folder.chmod(0o700)


def test_nothing_is_left_of_a_write_that_fails(folder):
    publish(Generations(folder, None), 1.0)
    before = {path.name for path in folder.iterdir()}

    def fail(path):
        path.write_text("half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        Generations(folder, None).publish(fail)
    assert {path.name for path in folder.iterdir()} == before
    assert prices(Generations(folder, None)) == [1.0]


def test_a_file_built_over_another_takes_its_place(tmp_path):
    path = tmp_path / "c.sqlite"
    build(path, rows(1.0))
    old = CatalogFile.open(path)
    build(path, rows(2.0))
    assert [each.price_hourly for each in old.offers(Query())] == [1.0]
    assert [each.price_hourly for each in CatalogFile.open(path).offers(Query())] == [2.0]
    assert [each.name for each in tmp_path.iterdir()] == ["c.sqlite"]
