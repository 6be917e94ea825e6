"""What public programs take of this interface, as `surface.toml` lists it: each path imports, each call form binds."""

import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import sky
from sky.compat import paths

SURFACE = tomllib.loads((Path(__file__).parent / "surface.toml").read_text(encoding="utf-8"))
SYMBOLS = [
    (name, row)
    for row in SURFACE["symbol"]
    for name in (row["name"] if isinstance(row["name"], list) else [row["name"]])
]
MODULES = [(row["path"], name) for row in SURFACE["module"] for name in row["names"]]


def named(path: str) -> Any:
    value: Any = sky
    for part in path.split(".")[1:]:
        value = getattr(value, part)
    return value


def child(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_list_is_whole() -> None:
    assert len(SYMBOLS) > 80
    assert len(MODULES) > 100
    assert {row["kind"] for _, row in SYMBOLS} == {"function", "class", "enum", "value", "module"}
    rows = [path for path, _ in SYMBOLS]
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize(("name", "row"), SYMBOLS, ids=[name for name, _ in SYMBOLS])
def test_it_is_there_and_takes_what_it_is_given(name: str, row: dict[str, Any]) -> None:
    value = named(name)
    kinds = {"class": inspect.isclass, "enum": inspect.isclass, "function": callable, "module": inspect.ismodule}
    assert kinds.get(row["kind"], bool)(value)
    assert [each for each in row.get("members", ()) if not hasattr(value, each)] == []
    for form in row.get("calls", ()):
        positional, keywords = arguments(form)
        inspect.signature(value).bind(*positional, **keywords)


def arguments(form: str) -> tuple[list[object], dict[str, object]]:
    """The arguments of a call form, as Python reads them: a `_` is nothing in particular."""
    taken: tuple[list[object], dict[str, object]] = eval(
        f"take({form})", {"take": lambda *args, **more: (list(args), more), "_": object()}
    )
    return taken


@pytest.mark.parametrize("name", [name for name, row in SYMBOLS if row.get("later")])
def test_what_cannot_work_says_so(name: str) -> None:
    with pytest.raises(sky.exceptions.NotSupportedError, match=name.rpartition(".")[2]):
        named(name)("x")


@pytest.mark.parametrize(("path", "name"), MODULES, ids=[f"{path}:{name}" for path, name in MODULES])
def test_a_path_of_other_versions_imports(path: str, name: str) -> None:
    assert getattr(importlib.import_module(path), name) is getattr(named(path), name)


def test_every_name_of_the_table_leads_somewhere() -> None:
    for table in (paths.PATHS, paths.BESIDE):
        for path in table:
            module = importlib.import_module(path)
            for name in [word.partition("=")[0] for words in table[path].values() for word in words.split()]:
                assert getattr(module, name) is not None


def test_no_path_of_the_table_hides_a_file_of_ours() -> None:
    root = Path(sky.__file__).parent
    for path in [*paths.PATHS, *paths.GONE]:
        place = root.joinpath(*path.split(".")[1:])
        assert not place.exists(), path
        assert not place.with_suffix(".py").exists(), path


def test_a_program_that_imports_at_its_top_finds_everything_in_a_fresh_process() -> None:
    lines = [f"from {path} import {', '.join(name for at, name in MODULES if at == path)}" for path, _ in MODULES]
    assert child("\n".join([*dict.fromkeys(lines), "print('fine')"])) == "fine"


def test_submodules_are_reached_by_attribute_alone() -> None:
    program = (
        "import sky; print(sky.data.storage.Storage is sky.Storage, sky.skylet.job_lib.JobStatus is sky.JobStatus,"
        " sky.jobs.client.sdk.launch is sky.jobs.launch, sky.jobs.state.ManagedJobStatus is sky.ManagedJobStatus,"
        " sky.utils.status_lib.ClusterStatus is sky.ClusterStatus, sky.clouds.cloud.Cloud is sky.clouds.Cloud,"
        " sky.serve.serve_utils.UpdateMode.ROLLING.value, callable(sky.core.status))"
    )
    assert child(program) == "True True True True True True rolling True"


def test_the_table_is_not_read_by_those_who_do_not_ask() -> None:
    program = (
        "import sys, sky; sky.Task(run='x', resources=sky.Resources(infra='local')); sky.launch, sky.status;"
        "print([name for name in sys.modules if name.startswith('sky.compat')])"
    )
    assert child(program) == "[]"


def test_the_finder_is_there_once_and_last() -> None:
    program = (
        "import sys, sky, importlib; importlib.reload(sky);"
        "print([getattr(each, '__name__', '') for each in sys.meta_path].count('_ForeignPaths'),"
        " sys.meta_path[-1].__name__)"
    )
    assert child(program) == "1 _ForeignPaths"


@pytest.mark.parametrize("path", paths.GONE)
def test_what_is_not_offered_names_what_took_its_place(path: str) -> None:
    for asked in (path, f"{path}.anything"):
        with pytest.raises(ModuleNotFoundError, match="There is no module") as caught:
            importlib.import_module(asked)
        assert paths.GONE[path] in str(caught.value)
    assert not hasattr(named(path.rpartition(".")[0]), path.rpartition(".")[2])


def test_a_name_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(AttributeError, match=r"offers: .*check_cluster_name_is_valid"):
        sky.utils.common_utils.nonsense  # noqa: B018
    with pytest.raises(AttributeError, match=r"clusters are asked for by sky.status"):
        sky.backends.backend_utils  # noqa: B018
    with pytest.raises(AttributeError, match=r"it is 'sky.jobs.queue' now"):
        sky.spot_queue  # noqa: B018
    with pytest.raises(ModuleNotFoundError, match=r"sky\.nonsense"):
        importlib.import_module("sky.nonsense")
    with pytest.raises(ImportError, match=r"paths\.py"):
        exec("from sky.utils.common import nonsense")
