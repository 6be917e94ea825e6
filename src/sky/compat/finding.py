"""Makes a foreign module path into a module: asked by the finder in `sky/__init__.py` and by our own packages.

A module made here holds no name until it is asked for one; then the name is looked up where the table says.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from sky.compat import paths


class CallableModule(ModuleType):
    """A module that is called like the function of its own name, as `sky.check` is."""

    @property
    def __wrapped__(self) -> Any:
        """The function, which also has the signature that is shown for the module."""
        return getattr(self, self.__name__.rpartition(".")[2])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.__wrapped__(*args, **kwargs)


_CALLABLE = ("sky.check",)


class Loader:
    """Fills a module with the ways to its names."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return the module; None has Python make a plain one."""
        return CallableModule(spec.name) if spec.name in _CALLABLE else None

    def exec_module(self, module: ModuleType) -> None:
        """Give it its names, to be looked up when they are asked for."""
        path = module.__name__
        module.__doc__ = f"`{path}` of other versions of this interface; see sky/compat/paths.py for what it holds."
        # What Python names when somebody imports what is not there, and where a reader finds out why.
        module.__file__ = paths.__file__
        module.__dict__["__all__"] = list(_homes(paths.PATHS[path]))
        module.__dict__["__getattr__"] = beside(path)
        module.__dict__["__dir__"] = lambda: sorted({*vars(module), *module.__all__, *_children(path)})


def find_spec(path: str) -> ModuleSpec | None:
    """Say how to make the module of a foreign path; None if the table has none.

    Raises ModuleNotFoundError, with what took its place, for a path that is not offered on purpose.
    """
    if path in paths.PATHS:
        return ModuleSpec(path, Loader(), is_package=True)  # type: ignore[arg-type]
    for gone, instead in paths.GONE.items():
        if path == gone or path.startswith(gone + "."):
            raise ModuleNotFoundError(f"There is no module '{path}' in this implementation: {instead}.", name=path)
    return None


def beside(path: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module: its names in the table, and the modules below it."""

    def find(name: str) -> Any:
        homes = _homes({**paths.PATHS.get(path, {}), **paths.BESIDE.get(path, {})})
        if name in homes:
            home, ours = homes[name]
            value: Any = getattr(import_module(home), ours)
            vars(sys.modules[path])[name] = value
            return value
        if not name.startswith("__"):
            with contextlib.suppress(ModuleNotFoundError):
                return import_module(f"{path}.{name}")
        raise AttributeError(f"module '{path}' has no attribute '{name}'{_hint(path, name, homes)}")

    return find


def _homes(table: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Name to module and name of ours."""
    found = {}
    for home, words in table.items():
        for word in words.split():
            theirs, _, ours = word.partition("=")
            found[theirs] = (home, ours or theirs)
    return found


def _children(path: str) -> list[str]:
    before = f"{path}."
    return [each[len(before) :] for each in paths.PATHS if each.startswith(before) and "." not in each[len(before) :]]


def _hint(path: str, name: str, homes: Sequence[str] | dict[str, Any]) -> str:
    if name.startswith("__"):
        return ""
    gone = paths.GONE.get(f"{path}.{name}")
    if gone is not None:
        return f": {gone}"
    offered = ", ".join(sorted([*homes, *_children(path)]))
    return f"; of this module this implementation offers: {offered}" if offered else ""
