"""Files of variables for ``--env-file`` and ``--secret-file``: ``KEY=value`` lines as shells read them.

Called by the command line. Quotes, ``export``, comments and ``${NAME}`` (with ``:-default``) are understood; double
quotes know ``\\n`` and the like, single quotes are verbatim, and both may span lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from sky.core.model.names import check_env_name
from sky.wire.yaml_reader import MAX_BYTES

_LINE = re.compile(
    r"""[ \t]*(?:export[ \t]+)?(?P<key>[^\s=#'"]+)[ \t]*=[ \t]*
        (?:'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|(?P<bare>[^\r\n'"][^\r\n]*|))
        [ \t]*(?:\#[^\r\n]*)?(?:\r?\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_SKIPPED = re.compile(r"[ \t]*(?:#[^\n]*)?\r?\n|[ \t]*(?:#[^\n]*)?\Z")
_COMMENT = re.compile(r"(?:^|\s+)#.*")
_REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*)(?::-([^}]*))?\}", re.ASCII)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def parse_dotenv(text: str, source: str = "<env file>", env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of a text, in its order; ``env`` is where ``${NAME}`` is looked up after the text itself.

    Raises ``ValueError`` with file and line for a line that is no assignment or a name that no variable may have.
    """
    text = text.removeprefix("\ufeff")
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        skipped = _SKIPPED.match(text, position)
        if skipped is not None:
            position = max(skipped.end(), position + 1)
            continue
        line = text.count("\n", 0, position) + 1
        matched = _LINE.match(text, position)
        if matched is None:
            raise ValueError(f"{source}:{line}: found a line that is no assignment; allowed: KEY=value, quotes closed")
        try:
            key = check_env_name(matched["key"])
        except ValueError as exc:
            raise ValueError(f"{source}:{line}: {exc}") from None
        found[key] = _value(matched, {**(env or {}), **found})
        position = matched.end()
    return found


def _value(matched: re.Match[str], known: Mapping[str, str]) -> str:
    if matched["single"] is not None:
        return matched["single"]
    if matched["double"] is not None:
        text = _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), matched["double"])
    else:
        text = _COMMENT.sub("", matched["bare"] or "").strip()
    return _REFERENCE.sub(lambda found: known.get(found[1]) or found[2] or "", text)


def load_env_file(path: str | Path, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Read a file of variables; raises ``ValueError`` where it is missing, too big, or no text."""
    file = Path(path).expanduser()
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"{path}: found more than {MAX_BYTES} bytes in a file of variables")
        return parse_dotenv(data.decode("utf-8"), str(path), env)
    except FileNotFoundError:
        raise ValueError(f"There is no file of variables '{path}'.") from None
    except OSError as exc:
        raise ValueError(f"The file of variables '{path}' cannot be read: {exc}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: found bytes that are not UTF-8; save the file as UTF-8") from None
