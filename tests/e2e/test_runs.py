"""A task's whole life in one call, as integrations use it: whatever happens, nothing is left behind."""

import io
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import until

import sky
import sky.local

pytestmark = [pytest.mark.e2e]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    # Not tmp_path: sockets below it need a short path.
    root = Path(tempfile.mkdtemp(prefix="sky-run-"))
    home = os.environ.get("HOME")
    os.environ["HOME"] = str(root)
    try:
        with sky.local.embedded(root / "s") as where:
            yield where
    finally:
        os.environ.pop("HOME")
        if home is not None:
            os.environ["HOME"] = home
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(autouse=True)
def chosen(endpoint: str) -> Iterator[None]:
    with sky.using_endpoint(endpoint):
        yield
        until(lambda: names() == [])


def names() -> list[str]:
    return [each["name"] for each in sky.get(sky.status(all_users=True))]


def task(script: str) -> sky.Task:
    return sky.Task(name="t", run=script, resources=sky.Resources(infra="local"))


class Said(io.StringIO):
    """A stream that tells when a word went by."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word, self.there = word, threading.Event()

    def write(self, text: str) -> int:
        size = super().write(text)
        if self.word in self.getvalue():
            self.there.set()
        return size


def background(run: sky.Run, stream: io.StringIO) -> tuple[threading.Thread, list[object]]:
    ended: list[object] = []

    def follow() -> None:
        try:
            ended.append(run.follow(stream))
        except Exception as error:  # whatever ends the run is what the test asks about
            ended.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    return thread, ended


def test_a_job_that_succeeds_is_told_and_its_cluster_is_gone():
    said, numbers = io.StringIO(), []
    run = sky.Run(task("echo hello"), name="mine")
    outcome = run.follow(said, on_job=numbers.append)
    assert outcome.succeeded and (outcome.exit_code, outcome.status) == (0, "SUCCEEDED")
    assert outcome.cluster_name.startswith("mine-") and numbers == [outcome.job_id] == [1]
    assert (outcome.infra, outcome.cost) == ("local", 0.0) and outcome.seconds > 0
    assert "hello" in said.getvalue()


def test_a_job_that_fails_fails_the_call_and_its_cluster_is_gone():
    with pytest.raises(sky.exceptions.JobError, match="FAILED"):
        sky.run(task("exit 3"), output_stream=io.StringIO())
    assert sky.run(task("exit 3"), output_stream=io.StringIO(), check=False).exit_code == 100


def test_exec_makes_no_cluster():
    with pytest.raises(ValueError, match="cluster_name"):
        sky.Run(task("true"), exec=True)
    with pytest.raises(sky.exceptions.ClusterDoesNotExist):
        sky.run(task("true"), cluster_name="no-such", exec=True, output_stream=io.StringIO())


def test_a_launch_that_fails_leaves_nothing():
    asked = sky.Task(name="t", run="true", resources=sky.Resources(infra="local", cpus=100_000))
    with pytest.raises(sky.exceptions.ResourcesUnavailableError):
        sky.run(asked, output_stream=io.StringIO())


def test_a_cluster_that_is_named_stays_and_is_used_again():
    first = sky.run(task("echo 1"), cluster_name="kept", output_stream=io.StringIO())
    second = sky.run(task("echo 2"), cluster_name="kept", output_stream=io.StringIO())
    assert (first.job_id, second.job_id, names()) == (1, 2, ["kept"])
    quick = sky.run(sky.Task(run="echo 3", setup="exit 1"), cluster_name="kept", exec=True, output_stream=io.StringIO())
    assert quick.job_id == 3, "nothing is set up"
    assert sky.run(task("echo 3"), cluster_name="kept", keep=False, output_stream=io.StringIO()).job_id == 4


@pytest.mark.parametrize("when", ["before the launch", "while launching", "while it runs"])
def test_a_run_is_called_off_from_another_thread(when):
    run, said = sky.Run(task("echo begun; sleep 600")), Said("begun")
    if when == "before the launch":
        run.cancel()
    thread, ended = background(run, said)
    if when == "while launching":
        until(lambda: bool(run.request_id))
        run.cancel()
    elif when == "while it runs":
        assert said.there.wait(60)
        run.cancel()
    thread.join(60)
    assert not thread.is_alive() and len(ended) == 1
    assert isinstance(ended[0], Exception) or not ended[0].succeeded


def test_calling_off_ends_the_job_on_a_cluster_that_is_kept():
    sky.run(task("true"), cluster_name="kept", output_stream=io.StringIO())
    run, said = sky.Run(task("echo begun; sleep 600"), cluster_name="kept"), Said("begun")
    thread, ended = background(run, said)
    assert said.there.wait(60)
    run.cancel()
    thread.join(60)
    assert [getattr(each, "status", each) for each in ended] == ["CANCELLED"]
    assert names() == ["kept"]
    sky.get(sky.down("kept"))


def test_an_exception_of_whoever_follows_ends_the_run():
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            if "begun" in text:
                raise OSError("no space left")
            return len(text)

    with pytest.raises(OSError, match="no space"):
        sky.run(task("echo begun; sleep 600"), output_stream=Broken())


def test_a_managed_job_is_followed_and_called_off():
    outcome = sky.run(task("echo well"), managed=True, name="m", output_stream=io.StringIO())
    assert outcome.succeeded and outcome.cluster_name == f"m-{outcome.job_id}"
    run, said = sky.Run(task("echo begun; sleep 600"), managed=True), Said("begun")
    thread, ended = background(run, said)
    assert said.there.wait(60)
    run.cancel()
    thread.join(60)
    assert not thread.is_alive() and not ended[0].succeeded
    (told,) = [each for each in sky.get(sky.jobs.queue()) if each["job_id"] == run.job_id]
    assert told["status"].value in ("CANCELLED", "CANCELLING")


def test_each_run_talks_to_the_server_that_was_chosen_where_it_was_made(tmp_path):
    run = sky.Run(task("true"))
    with sky.using_endpoint("http://127.0.0.1:9"):
        assert run.follow(io.StringIO()).succeeded
        other = sky.Run(task("true"))
    with pytest.raises(sky.exceptions.ApiServerConnectionError):
        other.follow(io.StringIO())


def test_a_run_that_is_made_again_with_its_own_id_takes_up_what_is_there(tmp_path):
    go = tmp_path / "go"
    script = f"echo ran >>{tmp_path}/ran; echo begun; until [ -e {go} ]; do sleep 0.05; done; echo over"
    first = sky.Run(task(script), name="resumed", request_id="flow-7-try-1")
    said = Said("begun")
    thread, ended = background(first, said)
    assert said.there.wait(60)
    # As a program does that was ended and started again.
    again = sky.Run(task(script), name="resumed", request_id="flow-7-try-1")
    assert again.cluster_name == first.cluster_name
    heard = Said("begun")
    other, too = background(again, heard)
    assert heard.there.wait(60)
    go.touch()
    thread.join(60)
    other.join(60)
    assert [(each.exit_code, each.job_id, each.request_id) for each in (*ended, *too)] == [(0, 1, "flow-7-try-1")] * 2
    assert "over" in said.getvalue() and "over" in heard.getvalue()
    assert (tmp_path / "ran").read_text() == "ran\n"
