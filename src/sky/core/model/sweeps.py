"""Sweeps: one task for each combination of values. Read by `tasks`, opened out by what launches managed jobs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sky.core.model.job_groups import MOST_MEMBERS
from sky.core.model.names import check_env_name
from sky.core.model.schema import Problems, shorten

#: Characters of a task's name that tells its values; a longer one tells its number.
_LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class Sweep:
    """Values by variable in the order of writing; combinations that are left out; how many run at the same time."""

    matrix: tuple[tuple[str, tuple[str, ...]], ...]
    exclude: tuple[tuple[tuple[str, str], ...], ...] = ()
    max_parallel: int | None = None

    def combinations(self) -> list[dict[str, str]]:
        """One mapping of variables for each task, the last variable changing fastest."""
        names = [name for name, _ in self.matrix]
        every = (
            dict(zip(names, each, strict=True)) for each in itertools.product(*(values for _, values in self.matrix))
        )
        return [each for each in every if not any(dict(left).items() <= each.items() for left in self.exclude)]

    @property
    def size(self) -> int:
        """How many combinations there are, those that are left out among them."""
        size = 1
        for _, values in self.matrix:
            size *= len(values)
        return size

    def to_config(self) -> dict[str, Any]:
        """Return the mapping that ``read_sweep`` reads back."""
        config: dict[str, Any] = {"matrix": {name: list(values) for name, values in self.matrix}}
        if self.exclude:
            config["exclude"] = [dict(each) for each in self.exclude]
        if self.max_parallel is not None:
            config["max_parallel"] = self.max_parallel
        return config


def names_of(name: str, combinations: Sequence[Mapping[str, str]]) -> list[str]:
    """A name for each task of a sweep: with its values where these can be told, else with its number."""
    told = []
    for number, values in enumerate(combinations):
        words = [f"{key}-{value}" for key, value in values.items()]
        clean = re.sub(r"[._-]*[^A-Za-z0-9._-]+[._-]*|[._-]{2,}", "-", "-".join([name, *words])).strip("._-")
        told.append(clean if len(clean) <= _LONGEST_NAME else f"{name}-{number}")
    return [each if told.count(each) == 1 else f"{name}-{number}" for number, each in enumerate(told)]


def read_sweep(given: Mapping[str, Any], problems: Problems) -> Sweep | None:
    """Read ``sweep``; what is wrong is collected."""
    said = given.get("sweep")
    if said is None:
        return None
    matrix = said.get("matrix") or {}
    if not matrix:
        problems.add(("sweep",), "found no 'matrix'; allowed: variables, each with a list of values")
        return None
    before = len(problems.found)
    read = tuple((name, _values(name, values, problems)) for name, values in matrix.items())
    exclude = tuple(_left_out(at, each, dict(read), problems) for at, each in enumerate(said.get("exclude") or []))
    sweep = Sweep(read, exclude, said.get("max_parallel"))
    if len(problems.found) > before:
        return None
    if sweep.size > MOST_MEMBERS:
        problems.add(("sweep", "matrix"), f"found {sweep.size} combinations; allowed: at most {MOST_MEMBERS}")
        return None
    if not sweep.combinations():
        problems.add(("sweep", "exclude"), "found every combination left out; allowed: at least one that stays")
    return sweep


def _values(name: str, values: Sequence[Any], problems: Problems) -> tuple[str, ...]:
    with problems.catch("sweep", "matrix", name):
        check_env_name(name)
        if not values:
            raise ValueError("found an empty list; allowed: at least one value")
    texts = tuple(_text(each) for each in values)
    for at, each in enumerate(texts):
        if each in texts[:at]:
            problems.add(("sweep", "matrix", name, at), f"found '{shorten(each)}' twice; allowed: each value once")
        if "\0" in each:
            problems.add(("sweep", "matrix", name, at), "found a NUL character")
    return texts


def _left_out(
    at: int, said: Mapping[str, Any], matrix: Mapping[str, Sequence[str]], problems: Problems
) -> tuple[tuple[str, str], ...]:
    if not said:
        problems.add(("sweep", "exclude", at), "found nothing; allowed: variables of the matrix with a value each")
    for name, value in said.items():
        path = ("sweep", "exclude", at, name)
        if name not in matrix:
            problems.add(path, f"found '{shorten(name)}', which is not in 'matrix'; allowed: {', '.join(matrix)}")
        elif _text(value) not in matrix[name]:
            reason = f"found '{shorten(_text(value))}'; allowed: {', '.join(map(shorten, matrix[name]))}"
            problems.add(path, reason)
    return tuple((name, _text(value)) for name, value in said.items())


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
