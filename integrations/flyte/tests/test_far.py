"""Nodes with a file system of their own: inputs travel by upload, outputs by the log. On machines of an SSH pool."""

import importlib.util
import json
import os
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import sky
from flytekit.exceptions.user import FlyteUserException
from flytekit.types.file import FlyteFile

import far

BEDS = Path(__file__).parents[3] / "tests" / "testbed" / "beds.py"


def beds() -> ModuleType:
    if not BEDS.exists():
        pytest.skip("the test beds are not there")
    found = importlib.util.spec_from_file_location("testbed_beds", BEDS)
    assert found is not None
    assert found.loader is not None
    made = importlib.util.module_from_spec(found)
    found.loader.exec_module(made)
    if why := made.missing():
        pytest.skip(why)
    return made


@pytest.fixture(scope="module")
def rack(home: Path) -> Iterator[object]:
    """One machine in a pool; it has flytekit, and neither this plugin nor a `sky` client."""
    pytest.importorskip("asyncssh")
    packages = sysconfig.get_path("purelib")
    with beds().lab("f-flyte") as lab:
        (machine,) = lab.create(1, bind=[f"{packages}:/opt/packages"])
        program = (
            '#!/bin/sh\nPYTHONPATH="$PYTHONPATH:/opt/packages" exec python3 -c '
            '"from flytekit.bin.entrypoint import execute_task_cmd; execute_task_cmd()" "$@"\n'
        )
        machine.exec(
            "sh", "-c", f"printf '%s' '{program}' > /usr/bin/pyflyte-execute; chmod 755 /usr/bin/pyflyte-execute"
        )
        (home / ".sky").mkdir(exist_ok=True)
        host = {"ip": machine.ip, "user": machine.user, "identity_file": machine.key}
        (home / ".sky/ssh_node_pools.yaml").write_text(json.dumps({"rack": {"hosts": [host]}}))
        # A server that is up already believes for some minutes what it has seen before.
        sky.get(sky.check(["ssh"]))
        yield machine
        for each in sky.get(sky.status(["far"])):
            sky.get(sky.down(each.name))
        assert not machine.exec("sh", "-c", f"ls /home/{machine.user}/.sky/nodes 2>/dev/null").stdout.split()
        (home / ".sky/ssh_node_pools.yaml").unlink()


@pytest.mark.usefixtures("rack")
def test_a_machine_elsewhere_runs_the_task_without_an_object_store(tmp_path: Path) -> None:
    assert shutil.which("pyflyte-execute") is not None
    given = tmp_path / "given.txt"
    given.write_text("from here")
    assert far.plus(a=4) == 7
    host, text = far.where(file=FlyteFile(str(given)))
    assert host != os.uname().nodename
    assert text == "from here"
    assert Path(far.written(text="from there").download()).read_text() == "from there"
    with pytest.raises(FlyteUserException, match="RuntimeError: boom 3"):
        far.boom(a=3)
