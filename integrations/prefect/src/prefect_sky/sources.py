"""Task files from a folder or a git repository, read for one run: the process's own directory is never changed.

Called by the tasks and the flows.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sky

#: Seconds that fetching a repository may take.
FETCH_S = 600.0
#: `git@host:path`; everything with a scheme is a repository, too.
_SCP_LIKE = re.compile(r"[\w.-]+@[\w.-]+:(?!//).+")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_git(base_path: str) -> bool:
    """Whether this names a repository to fetch, not a folder of this machine."""
    return bool(_SCHEME.match(base_path) or _SCP_LIKE.fullmatch(base_path))


@contextmanager
def opened(base_path: str | Path, git_branch: str | None = None) -> Iterator[Path]:
    """The folder that holds the task files; of a repository, a shallow checkout that is gone after the block.

    `git_branch` is a branch, a tag or a commit. Raises FileNotFoundError, ValueError, RuntimeError with git's words.
    """
    if is_git(str(base_path)):
        with tempfile.TemporaryDirectory(prefix="prefect-sky-") as folder:
            _fetch(str(base_path), git_branch, folder)
            yield Path(folder)
        return
    if git_branch is not None:
        raise ValueError(f"git_branch={git_branch!r} needs a repository's URL as base_path; found {str(base_path)!r}.")
    found = Path(base_path).expanduser().absolute()
    if not found.is_dir():
        raise FileNotFoundError(f"base_path {str(base_path)!r} is no folder on {os.uname().nodename}: {found}")
    yield found


def _fetch(url: str, ref: str | None, folder: str) -> None:
    if ref is not None and ref.startswith("-"):
        raise ValueError(f"git_branch is no name of a branch: {ref!r}")
    for words in (
        ("init", "--quiet", "."),
        ("fetch", "--quiet", "--depth", "1", "--no-tags", "--", url, ref or "HEAD"),
        ("checkout", "--quiet", "--detach", "FETCH_HEAD"),
    ):
        # Nobody is there to type a password: git fails at once and says why.
        done = subprocess.run(
            ["git", "-C", folder, *words],
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=FETCH_S,
            check=False,
        )
        if done.returncode:
            shown = _without_login(url)
            said = _without_login(done.stderr.strip()[-500:])
            raise RuntimeError(f"git {words[0]} of {shown} ({ref or 'its default branch'}) failed: {said}")


def _without_login(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//…@", text)


def is_inline(task_yaml: str) -> bool:
    """Whether this is the text of a task file, not the path of one."""
    return "\n" in task_yaml or re.match(r"\s*[\w-]+:(\s|$)", task_yaml) is not None


def read_task(
    text: str,
    base: Path,
    *,
    envs: Mapping[str, object] | None = None,
    secrets: Mapping[str, object] | None = None,
    source: str = "the text given",
) -> sky.Task:
    """A task whose relative paths are meant from `base`. Raises ValueError with every problem and the file's name."""
    import sky  # noqa: PLC0415 - flows are read where `sky` is never called

    try:
        task = sky.Task.from_yaml_str(text, texts(envs, "envs_override"), texts(secrets, "secrets"))
    except ValueError as problem:
        problem.add_note(f"This was read from {source}.")
        raise
    anchor(task, base)
    return task


def texts(values: Mapping[str, object] | None, what: str) -> dict[str, str]:
    """Variables as texts: numbers are welcome, and secrets of pydantic and Prefect give their value."""
    found: dict[str, str] = {}
    for name, value in (values or {}).items():
        reveal: Any = getattr(value, "get_secret_value", None) or getattr(value, "get", None)
        plain = reveal() if callable(reveal) and not isinstance(value, Mapping) else value
        if plain is None or isinstance(plain, Mapping | list | tuple | set):
            raise ValueError(f"{what}[{name!r}] must be a text or a number, not a {type(plain).__name__}.")
        found[str(name)] = str(plain)
    return found


def anchor(task: sky.Task, base: Path) -> None:
    """Make the local paths of a task absolute, as if the process stood in `base`."""
    if isinstance(task.workdir, str):
        task.workdir = _absolute(task.workdir, base)
    local = task.get_local_to_remote_file_mounts() or {}
    if local:
        anchored = {to: _absolute(source, base) for to, source in local.items()}
        task.set_file_mounts({**(task.file_mounts or {}), **anchored})


def _absolute(path: str, base: Path) -> str:
    return path if path.startswith(("/", "~")) else os.path.normpath(base / path)
