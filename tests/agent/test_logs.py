"""Logs: complete, in order, by offset, and quick."""

from __future__ import annotations

import time

import pytest

from sky.agent.logs import Collector, read_chunk, tail_offset


async def test_a_hundred_thousand_lines_arrive_complete_and_in_order(cluster):
    job_id = await cluster.submit("seq 1 100000", name="count")
    log = await cluster.log(job_id)
    prefix = b"(count, pid=%d) " % (await cluster.head.job(job_id))["pid"]
    assert log == b"".join(prefix + b"%d\n" % number for number in range(1, 100001))


async def test_the_last_line_needs_no_newline_and_junk_is_kept(cluster):
    job_id = await cluster.submit(r"printf '\377\000\r\033[1mx\n'; printf 'no newline'")
    log = await cluster.log(job_id, which="node", rank=0)
    assert log == b"\xff\x00\r\x1b[1mx\nno newline"
    prefix = b"(task, pid=%d) " % (await cluster.head.job(job_id))["pid"]
    assert await cluster.log(job_id) == prefix + b"\xff\x00\r\x1b[1mx\n" + prefix + b"no newline"


async def test_a_progress_bar_is_seen_before_its_line_ends(cluster):
    job_id = await cluster.submit(r"printf '10%%\r'; sleep 600")
    before = time.monotonic()
    data, *_ = await cluster.head.read_log(job_id, offset=0, wait=20)
    assert data.endswith(b") 10%\r") and time.monotonic() - before < 15
    await cluster.head.cancel([job_id])


async def test_a_line_reaches_a_follower_at_once(cluster):
    job_id = await cluster.submit("for i in $(seq 100); do sleep 0.1; date +%s.%N; done")
    delays, offset, eof = [], 0, False
    # Two in a row, as soon as this machine does nothing else.
    while not eof and (len(delays) < 2 or max(delays[-2:]) >= 0.05):
        data, offset, eof, _ = await cluster.head.read_log(job_id, offset=offset, wait=10)
        now = time.time()
        delays += [now - float(line.split(b") ")[1]) for line in data.splitlines()]
    assert max(delays[-2:]) < 0.05
    await cluster.head.cancel([job_id])


async def test_tail_and_offsets(cluster):
    job_id = await cluster.submit("seq 1 50")
    await cluster.until(job_id)
    whole = await cluster.log(job_id)
    assert await cluster.log(job_id, tail=3) == b"".join(whole.splitlines(keepends=True)[-3:])
    assert await cluster.log(job_id, tail=1000) == whole
    assert await cluster.log(job_id, tail=0) == b""
    assert await cluster.log(job_id, which="node", rank=0, tail=2) == b"49\n50\n"
    assert (await cluster.head.read_log(job_id, offset=10, limit=7))[0] == whole[10:17]


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"a", b"a\n", b"a\nb", b"a\nb\n", b"\n\n\n", b"x" * 70000 + b"\ny\n" * 40000]
)
def test_tail_counts_lines_as_a_reader_does(tmp_path, text):
    path = tmp_path / "log"
    path.write_bytes(text)
    for lines in (0, 1, 2, 5, 100000):
        wanted = b"".join(text.splitlines(keepends=True)[-lines:]) if lines else b""
        if b"\r" not in text:
            assert text[tail_offset(str(path), lines, len(text)) :] == wanted


def source(data, step):
    """A log as a node gives it: `step` bytes at a time."""

    async def fetch(offset, wait):
        piece = data[offset : offset + step]
        return {
            "offset": offset + len(piece),
            "eof": offset + len(piece) >= len(data),
            "status": "exited",
            "rc": 0,
        }, piece

    return fetch


async def test_what_was_written_but_not_noted_is_written_once(tmp_path):
    path, state = tmp_path / "log" / "run.log", tmp_path / "state" / "1"
    text = b"".join(b"line %d\n" % number for number in range(1000)) + b"end"
    first = Collector(str(path), str(state))
    first.write("run:0", 7, text[:7], b"> ")
    first.close(done=False)
    with path.open("ab") as file:
        file.write(b"> torn off in the mid")
    second = Collector(str(path), str(state))
    assert second.length == 9
    await second.copy("run:0", b"> ", source(text, 13))
    second.say("end", "over")
    second.close(done=False)
    third = Collector(str(path), str(state))
    third.say("end", "over")
    third.close(done=True)
    wanted = b"".join(b"> " + line for line in text.splitlines(keepends=True)) + b"\nover\n"
    assert path.read_bytes() == wanted
    assert list(state.parent.iterdir()) == []


async def test_two_voices_never_share_a_line(tmp_path):
    log = Collector(str(tmp_path / "run.log"), str(tmp_path / "state" / "1"))
    log.write("a", 3, b"one", b"A ")
    log.write("b", 4, b"two\n", b"B ")
    log.write("a", 9, b" more\n", b"A ")
    log.close(done=True)
    assert (tmp_path / "run.log").read_bytes() == b"A one\nB two\nA  more\n"
    assert read_chunk(str(tmp_path / "absent"), 0, 10) == b""
