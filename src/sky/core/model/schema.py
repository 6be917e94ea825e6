"""The small language in which every user-written text is declared, and the collector of what is wrong with one.

``fields.py`` declares sections (task, resources, storage, …) in it; the parsers of the nouns check a mapping against
its section first and read the values after. The YAML reader in ``wire`` hands in a locator, so that each problem is
shown with file, line and column; a mapping from Python has none, and the path alone says where.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sky.core.errors import InvalidSkyPilotConfigError

#: Where a value stands in a document: ``("resources", "any_of", 0, "cpus")``.
Path = tuple[str | int, ...]

#: Returns ``file.yaml:12:5`` for a path, or an empty text.
Locator = Callable[[Path], str]

#: Characters of a user's value that a message repeats.
_SHOWN = 60

#: Problems of one document that are told; a file with more is of another kind altogether.
_MOST_TOLD = 20

#: Letters of a word's beginning that are enough to guess the rest.
_LEAST_PREFIX = 3


def nowhere(path: Path) -> str:
    """Locate nothing: the locator of mappings that come from Python."""
    return ""


def dotted(path: Path) -> str:
    """Return a path as people write it: ``resources.any_of[0].cpus``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{shorten(str(part))}"
    return text


def shorten(text: str) -> str:
    """Return text on one line and of bounded length, fit for a message."""
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def describe(value: object) -> str:
    """Return a value with its kind, as messages show what was found."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text '{shorten(value)}'"
    if isinstance(value, Mapping):
        return "an empty mapping" if not value else f"a mapping with {shorten(', '.join(map(str, value)))}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"a list of {len(value)}"
    return f"a Python {type(value).__name__}"


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return the allowed word that was probably meant, or an empty text."""
    by_lower = {one.lower(): one for one in allowed}
    word = str(word).lower()
    close = difflib.get_close_matches(word, list(by_lower), n=1, cutoff=0.6)
    # A word cut short is less like the whole by letters than it is by meaning.
    close = close or [one for one in by_lower if len(word) >= _LEAST_PREFIX and one.startswith(word)]
    return by_lower[close[0]] if close else ""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a document. ``reason`` is the sentence; the rest is for programs."""

    path: Path
    reason: str
    found: str = ""
    allowed: tuple[str, ...] = ()
    hint: str = ""


@dataclass(slots=True)
class Problems:
    """Collects what is wrong with one document, so that all of it is reported at once.

    kind: the word in "Invalid <kind> YAML". locate: where a path stands in its file.
    """

    kind: str = "task"
    locate: Locator = nowhere
    found: list[Problem] = field(default_factory=list)
    _untold: int = 0
    _spoiled: set[Path] = field(default_factory=set)

    def add(self, path: Path, reason: str, **more: object) -> None:
        """Record a problem; ``more`` are the further fields of ``Problem``."""
        problem = Problem(tuple(path), reason, **more)  # type: ignore[arg-type]
        self._spoiled.update(path[:end] for end in range(len(path) + 1))
        if self.full:
            self._untold += 1
        elif not any((each.path, each.reason) == (problem.path, reason) for each in self.found):
            self.found.append(problem)

    @property
    def full(self) -> bool:
        """Whether further problems are only counted, so that words for them are not worth finding."""
        return len(self.found) >= _MOST_TOLD

    @contextmanager
    def catch(self, *path: str | int) -> Iterator[None]:
        """Turn a ``ValueError`` raised inside into a problem at ``path``, and go on."""
        try:
            yield
        except InvalidSkyPilotConfigError as exc:
            self.add((*path, *exc.path), exc.args[0], found=exc.found, allowed=exc.allowed, hint=exc.hint)
        except ValueError as exc:
            self.add(tuple(path), str(exc))

    def spoils(self, *path: str | int) -> bool:
        """Say whether something at or below ``path`` is already known to be wrong."""
        return path in self._spoiled

    def raise_if_any(self) -> None:
        """Raise ``InvalidSkyPilotConfigError`` with every problem found, if there is one."""
        if not self.found:
            return
        lines = [self._line(problem) for problem in self.found]
        more = ["and more"] if self._untold else []
        body = lines[0]
        if len(lines) > 1:
            body = f"{len(lines)} problems:" + "".join(f"\n  - {line}" for line in [*lines, *more])
        first = self.found[0]
        raise InvalidSkyPilotConfigError(
            f"Invalid {self._kind()} YAML: {body}",
            path=first.path,
            found=first.found,
            allowed=first.allowed,
            hint=first.hint,
            problems=lines,
        )

    def _kind(self) -> str:
        kinds = {_SECTION_KINDS.get(str(problem.path[0]), "task") if problem.path else "task" for problem in self.found}
        return kinds.pop() if self.kind == "task" and len(kinds) == 1 else self.kind

    def _line(self, problem: Problem) -> str:
        where = " ".join(
            part for part in (self.locate(problem.path), f"({dotted(problem.path)})") if part not in ("", "()")
        )
        return f"{where}: {problem.reason}" if where else problem.reason


#: A task's sections that have a name of their own in messages.
_SECTION_KINDS = {
    "resources": "resources",
    "service": "service",
    "pool": "service",
    "config": "config",
    "file_mounts": "storage",
    "volumes": "volume",
}

_KIND_WORDS = {
    "text": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "mapping": "a mapping",
    "list": "a list",
}


@dataclass(frozen=True, slots=True)
class Field:
    """What may stand at one key.

    kinds: accepted kinds of value: text, number, integer, boolean, mapping, list.
    about: what the key means, in a few words. choices: the accepted texts, if only some are.
    section: the keys of a mapping value. values: what every item of a list or value of a mapping must be.
    least, most: bounds of a number.
    """

    kinds: tuple[str, ...]
    about: str
    choices: tuple[str, ...] = ()
    section: Section | None = None
    values: Field | None = None
    least: float | None = None
    most: float | None = None
    nullable_values: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """The keys of one mapping: its name in messages, its fields, and where misplaced keys belong.

    elsewhere: sentence for a key that people write here although it belongs somewhere else.
    open: unknown keys are accepted. internal: keys that begin with an underscore are accepted unread.
    """

    name: str
    fields: Mapping[str, Field]
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    open: bool = False
    internal: bool = False


def kind_of(value: object) -> str:
    """Return the kind of a value as a ``Field`` names it."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Mapping):
        return "mapping"
    return "list" if isinstance(value, list | tuple | set | frozenset) else "other"


def check(value: object, spec: Field, path: Path, problems: Problems) -> None:
    """Record every way in which ``value`` does not fit ``spec``; null is always "not given"."""
    if value is None:
        return
    kind = kind_of(value)
    fits = kind in spec.kinds or (kind == "integer" and "number" in spec.kinds)
    if not fits:
        allowed = tuple(_KIND_WORDS[one] for one in spec.kinds)
        quote = "; put it in quotes" if kind in ("boolean", "number", "integer") and "text" in spec.kinds else ""
        reason = f"found {describe(value)}; allowed: {' or '.join(allowed)} ({spec.about}){quote}"
        problems.add(path, reason, found=describe(value), allowed=allowed)
    elif isinstance(value, str):
        _check_choice(value, spec, path, problems)
    elif isinstance(value, Mapping):
        _check_mapping(value, spec, path, problems)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_bounds(value, spec, path, problems)
    elif kind == "list" and spec.values is not None:
        for index, item in enumerate(value):  # type: ignore[arg-type, var-annotated]
            if item is None:
                problems.add((*path, index), "found nothing (null) in a list", found="null")
            check(item, spec.values, (*path, index), problems)


def _check_choice(value: str, spec: Field, path: Path, problems: Problems) -> None:
    if spec.choices and value.lower() not in [choice.lower() for choice in spec.choices]:
        hint = "" if problems.full else nearest(value, spec.choices)
        ask = f"; did you mean '{hint}'?" if hint else ""
        reason = f"found {describe(value)}; allowed: {', '.join(spec.choices)}{ask}"
        problems.add(path, reason, found=value, allowed=spec.choices, hint=hint)


def _check_bounds(value: float, spec: Field, path: Path, problems: Problems) -> None:
    low = spec.least is not None and not value >= spec.least
    high = spec.most is not None and not value <= spec.most
    if low or high:
        bounds = [f"at least {spec.least:g}"] if spec.least is not None else []
        bounds += [f"at most {spec.most:g}"] if spec.most is not None else []
        problems.add(path, f"found {describe(value)}; allowed: {' and '.join(bounds)}", found=str(value))


def _check_mapping(value: Mapping[Any, Any], spec: Field, path: Path, problems: Problems) -> None:
    if spec.section is not None:
        check_section(value, spec.section, path, problems)
    if spec.values is None:
        return
    for key, item in value.items():
        if not isinstance(key, str):
            problems.add(path, f"found {describe(key)} as a key; allowed: texts", found=describe(key))
        if item is None and not spec.nullable_values:
            problems.add((*path, str(key)), f"found nothing (null); allowed: {_KIND_WORDS[spec.values.kinds[0]]}")
        check(item, spec.values, (*path, str(key)), problems)


def check_section(value: Mapping[Any, Any], section: Section, path: Path, problems: Problems) -> None:
    """Check the keys and values of a mapping against a section."""
    for key, item in value.items():
        if not isinstance(key, str):
            problems.add(path, f"found {describe(key)} as a key; allowed: texts", found=describe(key))
        elif key in section.fields:
            check(item, section.fields[key], (*path, key), problems)
        elif not section.open and not (section.internal and key.startswith("_")):
            _add_unknown(key, section, path, problems)


def _add_unknown(key: str, section: Section, path: Path, problems: Problems) -> None:
    allowed = tuple(name for name in section.fields if not name.startswith("_"))
    hint = "" if problems.full else nearest(key, allowed)
    if key in section.elsewhere:
        tail = section.elsewhere[key]
    elif hint:
        tail = f"did you mean '{hint}'?"
    else:
        tail = f"allowed: {', '.join(sorted(allowed))}"
    reason = f"found unknown field '{shorten(key)}' in {section.name}; {tail}"
    problems.add((*path, key), reason, found=key, allowed=allowed, hint=hint)
