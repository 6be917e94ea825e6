"""One launch on this machine is one trace: command, calls, orders, provider, agent, and the job on its node."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))

from collector import Collector, Told, collecting

pytestmark = pytest.mark.e2e


def tree(spans: list[Told]) -> Told:
    """The root of the trace, once it is certain that all others hang on it."""
    known = {each.id: each for each in spans}
    roots = [each for each in spans if each.parent not in known]
    assert len(roots) == 1, [(each.name, each.parent) for each in roots]
    assert {each.trace for each in spans} == {roots[0].trace}
    return roots[0]


def of_launch(collector: Collector) -> list[Told]:
    found = collector.named("sky launch")
    return [each for each in collector.spans if found and each.trace == found[0].trace]


def test_a_launch_is_one_tree(sky, eventually):
    pytest.importorskip("opentelemetry.sdk")
    with collecting() as collector:
        sky.env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        # With files, or they would not be brought there.
        (sky.root / "wd").mkdir()
        (sky.root / "wd" / "file").touch()
        words = ["launch", "-c", "one", "-y", "--workdir", str(sky.root / "wd"), "--secret", "KEY=hidden-word"]
        words += ["--env", "E=said-word", "echo told-word"]
        sky.good(*words)
        wanted = {
            "sky launch", "POST /launch", "request Work", "request Finished", "cluster Provision", "local create",
            "cluster Bootstrap", "cluster AgentsReady", "job SyncFiles", "job Submit", "agent submit", "agent queue",
            "agent job", "GET /api/get",
        }  # fmt: skip
        spans: list[Told] = []

        def whole() -> bool:
            # One look: what is told between two may have a parent that is told later.
            spans[:] = of_launch(collector)
            return wanted <= {each.name for each in spans} and len(tree_or_nothing(spans)) == 1

        eventually(whole)
        root = tree(spans)
        assert (root.name, root.service) == ("sky launch", "sky")
        services = {each.name: each.service for each in spans}
        assert services["cluster Provision"] == "sky-api-server"
        (job,) = [each for each in spans if each.name == "agent job"]
        assert job.attributes["sky.outcome"] == "SUCCEEDED"
        assert job.end > job.begun
        assert not job.failed
        by_id = {each.id: each for each in spans}
        assert by_id[job.parent].name == "job Submit"
        (made,) = [each for each in spans if each.name == "local create"]
        assert by_id[made.parent].name == "cluster Provision"
        everything = b"".join(collector.raw)
        for word in (b"hidden-word", b"said-word", b"told-word"):
            assert word not in everything
        # Nobody waits for what is looked at from now on: no trace grows for ever.
        now = time.time_ns()
        sky.good("status", "-r")
        sky.good("down", "one", "-y")
        eventually(lambda: collector.named("sky down") != [])
        down = [each for each in collector.spans if each.trace == collector.named("sky down")[0].trace]
        eventually(lambda: "local terminate" in {each.name for each in collector.spans})
        assert down
        # By when they began: what had ended before may have been told since.
        assert [each.name for each in of_launch(collector) if each.begun > now] == []


def tree_or_nothing(spans: list[Told]) -> list[Told]:
    known = {each.id for each in spans}
    return [each for each in spans if each.parent not in known]


def test_nothing_is_loaded_unless_it_is_asked_for(sky):
    code = (
        "import sys, sky.server.process, sky.server.assembly, sky.sdk.transport, sky.cli.groups\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=sky.env)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_collector_that_is_not_there_hinders_nobody(sky):
    pytest.importorskip("opentelemetry.sdk")
    sky.env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    assert "Job finished" in sky.good("launch", "-c", "one", "-y", "true").stdout
    assert "Traceback" not in (sky.state / "server.log").read_text()
