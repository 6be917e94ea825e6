"""A soak remembers what it played, goes on from there, shrinks what fails, and leaves no process behind."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sky.sim.record import Record, Seeds, asked, revision
from sky.sim.soak import Soak, _line


def test_seeds_are_kept_as_ranges():
    seeds = Seeds([(1, 3), (8, 9)])
    for each in (5, 4, 12, 1):
        seeds.add(each)
    assert seeds.ranges() == [(1, 5), (8, 9), (12, 12)]
    assert len(seeds) == 8 and 9 in seeds and 10 not in seeds
    assert list(seeds.missing(0, 14)) == [0, 6, 7, 10, 11, 13, 14]
    assert list(seeds.missing(2, 4)) == []
    assert list(Seeds().missing(3, 5)) == [3, 4, 5]


@pytest.mark.parametrize(("words", "meant"), [("7..9", (7, 9)), ("12", (1, 12)), ("5..5", (5, 5))])
def test_seeds_are_asked_for_by_range_or_number(words, meant):
    assert asked(words) == meant


@pytest.mark.parametrize("words", ["", "9..7", "0", "a..b", "1..", "-3"])
def test_other_words_name_no_seeds(words):
    with pytest.raises(ValueError, match="names no seeds"):
        asked(words)


def test_a_record_goes_on_from_its_file(tmp_path):
    path = tmp_path / "soak.record"
    first = Record(path)
    for seed in (1, 2, 4):
        first.holds(seed)
    first.breaks(3, ["a machine is left"], ["crash"])
    first.holds(5)
    first.write()
    second = Record(path)
    assert second.held.ranges() == [(1, 2), (4, 5)]
    assert second.broken == {3: ["a machine is left"]}
    second.holds(3)
    second.write()
    third = Record(path)
    assert third.held.ranges() == [(1, 5)] and third.broken == {}
    assert {json.loads(line)["revision"] for line in path.read_text().splitlines()} == {revision()}


async def test_a_soak_plays_what_is_not_on_record(tmp_path):
    record, said = Record(tmp_path / "soak.record"), []
    record.held.add(2, 3)
    tally = await Soak(record, 1, 4, said.append).run(jobs=2, seconds=None)
    assert (tally.played, tally.failed) == (2, [])
    assert record.held.ranges() == [(1, 4)]
    assert (await Soak(record, 1, 4, said.append).run(jobs=1, seconds=None)).played == 0


async def test_a_seed_that_fails_is_shrunk_put_on_record_and_played_again(tmp_path):
    path, said = tmp_path / "soak.record", []
    tally = await Soak(Record(path), 1, 1, said.append, ["--planted", "bill left open"]).run(jobs=1, seconds=None)
    assert tally.failed == [1]
    assert any(line.startswith("seed 1: ") for line in said)
    (line,) = [json.loads(each) for each in path.read_text().splitlines()]
    assert line["seed"] == 1 and line["broken"] and line["revision"] == revision()
    record = Record(path)
    await Soak(record, 1, 1, said.append).run(jobs=1, seconds=None)
    assert record.broken == {} and record.held.ranges() == [(1, 1)]


async def test_a_soak_that_is_called_off_leaves_nothing_behind(tmp_path):
    path = tmp_path / "soak.record"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sky.sim", "soak", "--record", str(path), "--minutes", "5",
        stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    player = None
    async with asyncio.timeout(60):
        while player is None:
            await asyncio.sleep(0.05)
            player = next(iter(_children(process.pid)), None)
    process.send_signal(signal.SIGINT)
    told, _ = await process.communicate()
    assert b"on record" in told
    assert not Path(f"/proc/{player}").exists()


def _children(pid: int) -> list[int]:
    found = []
    for each in (path for path in Path("/proc").iterdir() if path.name.isdigit()):
        try:
            words = (each / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[1]) == pid:
            found.append(int(each.name))
    return found


async def test_who_plays_is_stuck_by_the_time_that_we_ran_and_not_by_the_clock(monkeypatch):
    """A machine that was suspended, or a soak that was stopped, finds its players where they were."""
    monkeypatch.setattr("sky.sim.soak._STUCK_S", 2.0)
    output, loop = asyncio.StreamReader(), asyncio.get_running_loop()

    def suspended():
        time.sleep(2.5)
        loop.call_later(0.2, output.feed_data, b"played\n")

    loop.call_later(0.1, suspended)
    assert await _line(output) == b"played\n"
    assert await _line(output) is None, "it says nothing"
    output.feed_eof()
    assert await _line(output) == b"", "it has ended"
