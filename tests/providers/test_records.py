"""Records that several servers share: what one writes the other reads, and no change is lost."""

import subprocess
import sys
import threading

from sky.providers.records import alone, save, stamp
from sky.providers.ssh.slots import Ledger, Slot


def slot(number: int, cluster: str = "c") -> Slot:
    return Slot(
        f"{cluster}-{number}", "k", cluster, cluster, number, "p", f"m{number}", {"host": f"h{number}"}, 1.0, 1.0
    )


def test_a_record_has_another_stamp_when_it_was_written(tmp_path):
    path = tmp_path / "deep" / "kept.json"
    assert stamp(path) is None
    save(path, [1])
    first = stamp(path)
    assert first is not None
    assert stamp(path) == first
    save(path, [2])
    assert stamp(path) != first


def test_one_at_a_time(tmp_path):
    path, inside, most = tmp_path / "kept.json", [], []

    def work() -> None:
        for _ in range(50):
            with alone(path):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert max(most) == 1


def test_what_one_server_gives_out_the_other_knows(tmp_path):
    one, two = Ledger(tmp_path / "slots.json"), Ledger(tmp_path / "slots.json")
    assert not one.known()
    one.begin({})
    two.begin({"x-0": slot(0, "x")})  # too late: there is a record
    assert two.known() and list(two.all()) == []
    one.put([slot(0)])
    two.put([slot(1)])
    assert [each.node for each in one.of("c")] == ["c-0", "c-1"]
    two.drop(["c-0"])
    assert [each.node for each in one.all()] == ["c-1"]
    with one.alone():
        one.put([slot(2)])
        assert [each.node for each in one.all()] == ["c-1", "c-2"]
    assert [each.node for each in two.all()] == ["c-1", "c-2"]


WRITER = """
import sys
from pathlib import Path
from sky.providers.ssh.slots import Ledger, Slot
ledger = Ledger(Path(sys.argv[1]))
for number in range(10):
    node = f"{sys.argv[2]}-{number}"
    ledger.put([Slot(node, "k", sys.argv[2], "c", number, "p", node, {"host": node}, 1.0, 1.0)])
"""


def test_no_change_of_many_processes_is_lost(tmp_path):
    path = tmp_path / "slots.json"
    Ledger(path).begin({})
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), f"c{number}"]) for number in range(3)]
    assert [each.wait(60) for each in writers] == [0] * 3
    assert len(Ledger(path).all()) == 30
