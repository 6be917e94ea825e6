"""For all tests: the signals that a terminal would deliver are heard, whoever started the run; who runs what in a
parallel run; and the test beds."""

import gc
import signal
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_COUNT = count()

# A run that was put into the background ignores Ctrl-C, and every program that it starts inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# A sixth of what it takes to find the tests is the collector's time, which looks at what stays for good.
gc.disable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """What was found stays until the end, and is not looked at again."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long is begun first, in an order that is random but for that: nobody waits for it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each worker has a file of its own for as long as there are files that nobody has, then helps with another's.

    So what a file sets up for all its tests (a server, a Slurm cluster, an environment) is set up once and not by every
    worker; and what waits runs beside what computes. The groups of xdist do neither (and since pytest 9.2, nothing).
    """
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import LoadGroupScheduling

    class ByFile(LoadGroupScheduling):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self._files: dict[str, list[str]] = {}
            self._last: dict[Any, str] = {}

        def _assign_work_unit(self, node: Any) -> None:
            files, last = self._files, self._last
            if not files:
                for test in self.workqueue:
                    files.setdefault(test.partition("::")[0], []).append(test)
            if last.get(node) not in files:
                fresh = (file for file in files if file not in last.values())
                last[node] = next(fresh, max(files, key=lambda file: len(files[file])))
            test = files[last[node]].pop(0)
            if not files[last[node]]:
                del files[last[node]]
            self.workqueue.move_to_end(test, last=False)
            super()._assign_work_unit(node)

    return ByFile(config, log)


def _module(file: str) -> ModuleType:
    """A module of the test beds' folder, which is no package, since programs lie in it."""
    name = f"testbed_{file}"
    if name not in sys.modules:
        found = spec_from_file_location(name, Path(__file__).parent / "testbed" / f"{file}.py")
        assert found is not None and found.loader is not None
        sys.modules[name] = module_from_spec(found)
        found.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def _beds() -> ModuleType:
    """The starter of test beds."""
    return _module("beds")


def _can(*needed: str) -> ModuleType:
    beds = _beds()
    if why := beds.missing(*needed):
        pytest.skip(why)
    return beds


@pytest.fixture
def lab() -> Iterator[Any]:
    """A lab of test hosts: `lab.create(2)`; gone with the test. See `tests/testbed/hosts`."""
    with _can().lab(f"t{next(_COUNT)}") as made:
        yield made


@pytest.fixture(scope="module")
def shared_lab() -> Iterator[Any]:
    """One lab for all tests of a file."""
    with _can().lab(f"m{next(_COUNT)}") as made:
        yield made


@pytest.fixture(scope="session")
def aws_wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """AWS's APIs whose instances are test hosts; one for each worker, so a test cleans up what it made."""
    wire = _can().Aws(tmp_path_factory.mktemp("aws"))
    yield wire
    wire.close()


@pytest.fixture(scope="session")
def gcp_wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Google's Compute Engine API whose instances are test hosts; one for each worker."""
    wire = _can().Gcp(tmp_path_factory.mktemp("gcp"))
    yield wire
    wire.close()


@pytest.fixture(scope="module")
def slurm_bed(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A Slurm cluster of two nodes, eight H100 by number on each; for all tests of a file.

    What the file calls SLURM are further words for the program, such as `("--preempt", "cancel")`.
    """
    made = _can("slurm").Slurm("--nodes", "2", "--gpus", "h100:8", *getattr(request.module, "SLURM", ()))
    yield made
    made.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A PostgreSQL server of this worker's own. See `tests/testbed/databases.py`."""
    databases = _module("databases")
    if why := databases.missing():
        pytest.skip(why)
    pytest.importorskip("asyncpg", reason="the extra `postgres` is not installed")
    server = databases.Postgres()
    yield server
    server.close()


@pytest.fixture(scope="session")
def pgbouncer(postgres: Any) -> Iterator[int]:
    """The port of PgBouncer in transaction mode before that server."""
    if _module("databases").pgbouncer_program() is None:
        pytest.skip("PgBouncer is not installed; tests/testbed/install.sh does that on Debian")
    with postgres.pgbouncer() as port:
        yield port


@pytest.fixture(scope="session")
def s3() -> Iterator[Any]:
    """S3 on this machine: `bucket()` makes one, and gives the environment by which it is reached."""
    pytest.importorskip("obstore", reason="the extra `objects` is not installed")
    pytest.importorskip("moto", reason="moto is not installed")
    made = _module("databases").S3()
    yield made
    made.close()


@pytest.fixture
def database(postgres: Any) -> Iterator[str]:
    """The name of a fresh database on it."""
    name = postgres.database()
    yield name
    postgres.drop(name)
