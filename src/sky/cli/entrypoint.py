"""What `ENTRYPOINT...` of `launch` and `exec` is: a task in a YAML file, or the words of a command. Used by both."""

import stat
from pathlib import Path
from typing import NamedTuple

import click

_YAML_SUFFIXES = (".yaml", ".yml")
#: Name of a task that is a bare command, as the interface has it.
COMMAND_NAME = "sky-cmd"
_RECIPE = "recipes:"
#: A task file is text that people write; more is a data file given by mistake (the reader has the same bound).
_MAX_BYTES = 1 << 20


class Entrypoint(NamedTuple):
    """Exactly one of `yaml` (text of the file called `source`) and `command` is set, or neither for no task at all."""

    yaml: str | None = None
    source: str = ""
    command: str | None = None


def classify(words: tuple[str, ...]) -> Entrypoint:
    """Decide what was meant. A readable YAML file that holds a mapping is a task; other words are a command.

    Raises click.UsageError for what is probably a mistake: a task file that is missing, a directory, no text, no YAML.
    """
    if not words:
        return Entrypoint()
    if len(words) > 1:
        return Entrypoint(command=" ".join(words))
    word = words[0]
    if word.startswith(_RECIPE):
        raise click.UsageError(f"{word}: recipes are not supported yet in this version; pass a YAML file.")
    named_yaml = Path(word).suffix.lower() in _YAML_SUFFIXES
    path = Path(word).expanduser()
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        if named_yaml and not any(char.isspace() for char in word):
            raise click.UsageError(f"File {word!r} does not exist (looked in {Path.cwd()}).") from None
        return Entrypoint(command=word)
    if stat.S_ISDIR(mode):
        if word.endswith("/") or "/" in word:
            raise click.UsageError(f"{word!r} is a directory; pass a task YAML or a command.")
        return Entrypoint(command=word)
    return _read(word, path, named_yaml, mode)


def _read(word: str, path: Path, named_yaml: bool, mode: int) -> Entrypoint:
    """Read a file that exists. A script that is meant to be run is a command; anything else has to be a task."""
    is_script = not named_yaml and bool(path.suffix or mode & stat.S_IXUSR)
    if is_script and stat.S_ISREG(mode):
        return Entrypoint(command=word)
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
        content = raw.decode("utf-8-sig")
    except OSError as exc:
        raise click.UsageError(f"File {word!r} cannot be read: {exc.strerror}.") from exc
    except UnicodeDecodeError as exc:
        raise click.UsageError(f"File {word!r} is not text (UTF-8), so it is no task YAML.") from exc
    if len(raw) > _MAX_BYTES:
        raise click.UsageError(f"File {word!r} is larger than {_MAX_BYTES >> 20} MiB, so it is no task YAML.")
    if not named_yaml and not _holds_mapping(content):
        raise click.UsageError(
            f"File {word!r} exists but is no task YAML. To run it as a command, say how: 'bash {word}' or './{word}'."
        )
    return Entrypoint(yaml=content, source=word)


def _holds_mapping(content: str) -> bool:
    """Whether the first line that says anything could begin a YAML mapping; the reader has the last word."""
    for line in content.splitlines():
        stripped = line.strip()
        if stripped and not stripped.startswith("#") and stripped != "---":
            return stripped.startswith("{") or stripped.split(" ", 1)[0].endswith(":")
    return False
