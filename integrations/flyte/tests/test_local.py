"""Local execution: tasks are called, and run as jobs at a real server; no Flyte cluster is there."""

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sky
from flytekit.exceptions.user import FlyteUserException
from flytekit.types.file import FlyteFile

import kinds
from flyte_running import FLOWS, Pyflyte, clusters, power_cut
from household import until

pytestmark = pytest.mark.usefixtures("home")


def test_the_seed_gives_the_right_number_on_one_shared_cluster(pyflyte: Pyflyte) -> None:
    done = pyflyte.run("seed.py", "wf", "--a", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split()[-1] == "7"
    assert "foo" in clusters()
    jobs = sky.get(sky.queue("foo"))
    assert [each.status.value for each in jobs] == ["SUCCEEDED", "SUCCEEDED"]
    assert [re.sub("-[0-9a-f]{12}$", "", each.job_name) for each in jobs] == ["t2", "t1"]
    (cluster,) = [each for each in sky.get(sky.status()) if each.name == "foo"]
    assert cluster.to_down
    plain = subprocess.run([sys.executable, "seed.py"], cwd=FLOWS, capture_output=True, text=True, timeout=100)
    assert plain.stdout.split()[-1] == "7", plain.stdout + plain.stderr
    assert len(sky.get(sky.queue("foo"))) == 4
    sky.get(sky.down("foo"))


def test_values_of_all_kinds_come_and_go(tmp_path: Path) -> None:
    assert kinds.sum_of(numbers=[1, 2, 3], point=kinds.Point(4, "p")) == 10
    assert kinds.moved(point=kinds.Point(4, "p")) == kinds.Point(5, "p!")
    assert tuple(kinds.two(a=21)) == (42, "good morning")
    assert kinds.nothing(a=1) is None
    assert kinds.files(text="quiet") == "QUIET"
    assert kinds.frames(rows=5) == 10
    given = tmp_path / "given.txt"
    given.write_text("from here")
    assert kinds.shouted(file=FlyteFile(str(given))) == "FROM HERE"
    made = Path(kinds.folder(names=["a", "b"]).download())
    assert sorted(each.name for each in made.iterdir()) == ["a", "b"]


def test_dynamic_and_map_tasks() -> None:
    assert kinds.squares(upto=3) == [0, 1, 4]
    assert kinds.mapped(numbers=[2, 3]) == [4, 9]


def test_a_task_finds_its_variables_secrets_and_setup() -> None:
    assert kinds.surroundings() == {
        "FROM_CONFIG": "c",
        "FROM_TASK": "t",
        "BOTH": "config",
        "HIDDEN": "s3cret-of-the-test",
        "vault": "token-of-the-vault",
        "setup": "from-setup",
    }


def test_a_gang_gives_what_its_first_node_gives() -> None:
    assert kinds.rank() == "0 of 2"


@pytest.mark.parametrize(
    ("name", "inputs", "words"),
    [
        ("fails", {"a": 3}, "RuntimeError: boom 3"),
        ("exits", {}, "about to leave"),
        ("slow", {}, "the task was ended after 4 s, its timeout"),
        ("bad_setup", {}, "FAILED_SETUP.*no compiler"),
        ("too_large", {}, "ResourcesUnavailableError.*(4000|cpus)"),
        ("odd_accelerator", {}, "Q9000"),
        ("nameless_gpu", {}, "gpu=1 does not say which"),
        ("alone_fails", {}, "ValueError: alone and wrong"),
        ("script_fails", {}, "what went wrong"),
    ],
)
def test_a_failure_is_told_in_its_own_words(name: str, inputs: dict[str, int], words: str) -> None:
    with pytest.raises((FlyteUserException, ValueError)) as raised:
        getattr(kinds, name)(**inputs)
    assert re.search(words, str(raised.value), re.DOTALL), str(raised.value)


def test_a_failing_workflow_ends_the_command_badly(pyflyte: Pyflyte) -> None:
    done = pyflyte.run("kinds.py", "fails", "--a", "3")
    assert done.returncode != 0
    assert "RuntimeError: boom 3" in done.stdout + done.stderr


def test_a_task_without_a_cluster_is_a_managed_job() -> None:
    before = clusters()
    assert kinds.alone(a=1) == 2
    (job,) = [each for each in sky.get(sky.jobs.queue()) if each.job_name.startswith("alone-")][:1]
    assert job.status == sky.ManagedJobStatus.SUCCEEDED
    assert clusters() == before


def test_a_cluster_made_for_one_task_goes_with_it() -> None:
    assert kinds.own_cluster(a=1) == 3
    until(lambda: not [each for each in clusters() if each.startswith("own-cluster")])


def test_a_script_has_its_inputs_as_variables(tmp_path: Path) -> None:
    kinds.script(WORD="so many:", COUNT=3, PLACE=str(tmp_path / "said"))
    assert (tmp_path / "said").read_text() == "so many: 3\n"


def test_ctrl_c_in_a_plain_program_cancels_the_job(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = f"import kinds; kinds.waits(mark={str(mark)!r})"
    running = subprocess.Popen(
        [sys.executable, "-c", code], cwd=FLOWS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        until(mark.exists, 100)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    pid = int(mark.read_text())
    until(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.parametrize("name", ["waits", "waits_alone"])
def test_ctrl_c_cancels_the_job(pyflyte: Pyflyte, tmp_path: Path, name: str) -> None:
    mark = tmp_path / "mark"
    running = pyflyte.start("kinds.py", name, "--mark", str(mark))
    try:
        until(mark.exists, 100)
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    assert running.returncode != 0, said
    pid = int(mark.read_text())
    until(lambda: not Path(f"/proc/{pid}").exists())
    if name == "waits":
        newest = sky.get(sky.queue("kinds"))[0]
        assert newest.job_name.startswith("waits-")
        assert newest.status == sky.JobStatus.CANCELLED
    else:
        until(lambda: not sky.get(sky.jobs.queue(skip_finished=True)))


def test_what_a_killed_workflow_leaves_goes_by_itself(pyflyte: Pyflyte, tmp_path: Path) -> None:
    assert kinds.brief(mark=str(tmp_path / "first")) == 5
    until(lambda: "brief" not in clusters())
    mark = tmp_path / "second"
    running = pyflyte.start("kinds.py", "brief", "--mark", str(mark))
    try:
        until(mark.exists, 100)
    finally:
        running.kill()
        running.communicate()
    until(lambda: "brief" not in clusters())


def test_a_lost_machine_is_replaced_and_the_workflow_goes_on(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    answers: list[str] = []
    worker = threading.Thread(target=lambda: answers.append(kinds.survives(mark=str(mark))))
    worker.start()
    until(mark.exists, 100)
    power_cut(int(mark.read_text()))
    worker.join(timeout=150)
    assert answers == ["recovered"]
    until(lambda: not sky.get(sky.jobs.queue(skip_finished=True)))
