"""Task files: from YAML text to ``TaskSpec`` and ``DagSpec``, with file, line and column in every complaint.

The command line and ``sdk.Task`` read here; the server reads the canonical mapping that they send with
``TaskSpec.from_config``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path as FilePath
from typing import Any

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.dags import DagSpec, read_header
from sky.core.model.fields import HEADER
from sky.core.model.schema import Locator, Path, Problems, describe, nowhere
from sky.core.model.tasks import SUBSTITUTED, TaskSpec, read_envs, read_task, substitute
from sky.wire.yaml_reader import MAX_BYTES, Document, expect_mapping, fail, read_documents

#: Variables given from outside the file: a mapping, or pairs as command lines collect them.
Overrides = Mapping[str, str] | Iterable[tuple[str, str]] | None

#: Sections whose values are the text that was written: ``DEBUG: yes`` is the text "yes", ``V: 1.10`` keeps its zero.
_TEXT_SECTIONS = ("envs", "secrets", "labels", "headers")


def wants_text(path: Path) -> bool:
    """Say whether a value of a task file is a text however it looks."""
    return (
        path in (("name",), ("workdir", "ref"))
        or (len(path) == 4 and path[0] == "sweep")
        or (len(path) >= 2 and path[-2] in _TEXT_SECTIONS)
    )


def read_file(path: str | FilePath, kind: str = "task") -> tuple[bytes, str]:
    """Return a file's bytes and its name for messages; raises ``ValueError`` for what is no readable file."""
    file = FilePath(path).expanduser()
    if file.is_dir():
        raise InvalidSkyPilotConfigError(f"Invalid {kind} YAML: '{path}' is a folder; give the file inside it.")
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_BYTES + 1), str(path)
    except FileNotFoundError:
        raise InvalidSkyPilotConfigError(f"Invalid {kind} YAML: there is no file '{path}'.") from None
    except (OSError, ValueError) as exc:
        raise InvalidSkyPilotConfigError(f"Invalid {kind} YAML: '{path}' cannot be read: {exc}") from None


def fill_in(
    config: Mapping[str, Any], problems: Problems, env_overrides: Overrides = None, secrets_overrides: Overrides = None
) -> dict[str, Any]:
    """Return a task mapping with outside variables merged in, still without ``${VAR}`` filled."""
    merged = dict(config)
    for section, overrides in (("envs", env_overrides), ("secrets", secrets_overrides)):
        given = dict(overrides or {})
        if given and not isinstance(merged.get(section) or {}, Mapping):
            problems.add((section,), f"found a list of references; '{next(iter(given))}' cannot be given beside them")
        elif given:
            merged[section] = {**(merged.get(section) or {}), **given}
    return merged


def expand(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task mapping with ``${VAR}`` filled from its envs where tasks allow it."""
    envs = config.get("envs")
    if not isinstance(envs, Mapping):
        return dict(config)
    known = read_envs({key: value for key, value in envs.items() if value is not None}, "envs", Problems())
    return {key: substitute(value, known) if key in SUBSTITUTED else value for key, value in config.items()}


def load_config(
    config: Mapping[str, Any],
    env_overrides: Overrides = None,
    secrets_overrides: Overrides = None,
    *,
    locate: Locator = nowhere,
) -> TaskSpec:
    """Read a task mapping as it would stand in a file; raises ``InvalidSkyPilotConfigError`` with every problem."""
    if not isinstance(config, Mapping):
        raise InvalidSkyPilotConfigError(f"Invalid task YAML: found {describe(config)}; allowed: a mapping of fields")
    problems = Problems(locate=locate)
    spec = read_task(expand(fill_in(config, problems, env_overrides, secrets_overrides)), problems)
    problems.raise_if_any()
    return spec


def read_single(text: str | bytes, source: str) -> Document:
    """Return the only document of a task text; several are a pipeline or job group, which is another call."""
    documents = [one for one in read_documents(text, source, wants_text=wants_text) if one.data is not None]
    if len(documents) > 1:
        line, column = documents[1].places[()]
        raise fail(
            source, "task", line, column, "found a second document; pipelines and job groups are read by load_dag"
        )
    if not documents:
        return Document({}, source, {})
    expect_mapping(documents[0], "task")
    return documents[0]


def load_task_yaml(
    path: str | FilePath | None = None,
    *,
    text: str | bytes | None = None,
    source: str = "<text>",
    env_overrides: Overrides = None,
    secrets_overrides: Overrides = None,
) -> TaskSpec:
    """Read one task from a file or from text; raises ``InvalidSkyPilotConfigError`` with every problem."""
    if text is None:
        text, source = read_file("" if path is None else path)
    document = read_single(text, source)
    return load_config(document.data, env_overrides, secrets_overrides, locate=document.locate)


def load_dag(
    path: str | FilePath | None = None,
    *,
    text: str | bytes | None = None,
    source: str = "<text>",
    env_overrides: Overrides = None,
    secrets_overrides: Overrides = None,
) -> DagSpec:
    """Read a file of one or several documents: a task, a pipeline, or a job group.

    Variables from outside reach every task that names them, and a lone task whether it names them or not.
    """
    if text is None:
        text, source = read_file("" if path is None else path)
    documents = [one for one in read_documents(text, source, wants_text=wants_text) if one.data is not None]
    header, bodies = _split_header(documents)
    tasks = []
    for body in bodies or [Document({}, source, {})]:
        config = expect_mapping(body, "task")
        envs = _meant_for(config, "envs", env_overrides, len(bodies))
        secrets = _meant_for(config, "secrets", secrets_overrides, len(bodies))
        tasks.append(load_config(config, envs, secrets, locate=body.locate))
    problems = Problems(kind="pipeline", locate=_within(header, bodies))
    dag = read_header(header.data if header else {}, tasks, problems)
    problems.raise_if_any()
    return dag


def _within(header: Document | None, bodies: list[Document]) -> Locator:
    """Where something is in a file of several documents: below `tasks` and a position, that task's document."""

    def locate(path: Path) -> str:
        if len(path) > 1 and path[0] == "tasks" and isinstance(path[1], int) and path[1] < len(bodies):
            return bodies[path[1]].locate(path[2:])
        return header.locate(path) if header else nowhere(path)

    return locate


def _split_header(documents: list[Document]) -> tuple[Document | None, list[Document]]:
    """Part the header, which has no key of a task but ``name``, from the tasks; a lone document is a task."""
    if len(documents) < 2 or not isinstance(documents[0].data, dict):
        return None, documents
    keys = set(documents[0].data)
    if keys <= set(HEADER.fields) and keys:
        return documents[0], documents[1:]
    return None, documents


def _meant_for(config: Mapping[str, Any], section: str, overrides: Overrides, count: int) -> dict[str, str]:
    given = dict(overrides or {})
    if count <= 1:
        return given
    own = config.get(section)
    return {key: value for key, value in given.items() if isinstance(own, Mapping) and key in own}
