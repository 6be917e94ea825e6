"""Which files of a tree stay behind: by `.skyignore` at its top if there is one, else by `.gitignore` as git has it.

Called by `sdk.uploads` while it walks. Paths are relative to the tree, with forward slashes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

SKYIGNORE = ".skyignore"
GITIGNORE = ".gitignore"


class Rule:
    """One line of an ignore file. `base` is the folder of that file, relative to the tree ("" for its top)."""

    __slots__ = ("_base", "_pattern", "dirs_only", "negated")

    def __init__(self, text: str, base: str) -> None:
        self.negated = text.startswith("!")
        if self.negated:
            text = text[1:]
        self.dirs_only = text.endswith("/")
        text = text.rstrip("/")
        self._base = f"{base}/" if base else ""
        # A slash at the start or in the middle ties the pattern to the folder of its file.
        anchored = "/" in text
        self._pattern = re.compile(("" if anchored else "(?:.*/)?") + _regex(text.lstrip("/")), re.DOTALL)

    def matches(self, path: str, is_dir: bool) -> bool:
        """Whether the rule speaks of this path."""
        if (self.dirs_only and not is_dir) or not path.startswith(self._base):
            return False
        return self._pattern.fullmatch(path, len(self._base)) is not None


def _regex(text: str) -> str:
    """The regular expression of a pattern; `**` spans folders only where it stands alone between slashes."""
    out: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        if text.startswith("**/", at) and (at == 0 or text[at - 1] == "/"):
            out.append("(?:.*/)?")
            at += 3
        elif text[at:] == "**" and (at == 0 or text[at - 1] == "/"):
            out.append(".+")
            at += 2
        elif char == "*":
            while text[at : at + 1] == "*":
                at += 1
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
            at += 1
        elif char == "[":
            piece, at = _class(text, at)
            out.append(piece)
        elif char == "\\" and at + 1 < len(text):
            out.append(re.escape(text[at + 1]))
            at += 2
        else:
            out.append(re.escape(char))
            at += 1
    return "".join(out)


def _class(text: str, at: int) -> tuple[str, int]:
    """The expression of a `[…]` class that begins at `at`, and where it ends; a lone bracket stands for itself."""
    start = at + 1
    negated = text[start : start + 1] in ("!", "^")
    start += negated
    end = text.find("]", start + 1)
    if end < 0:
        return re.escape("["), at + 1
    inner = text[start:end].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
    if inner.startswith("]"):
        inner = "\\" + inner
    piece = f"(?!/)[{'^' if negated else ''}{inner}]"
    try:
        re.compile(piece)
    except re.error:
        # A range that runs backwards matches nothing.
        return "(?!)", end + 1
    return piece, end + 1


def parse(lines: Iterable[str], base: str) -> list[Rule]:
    """The rules of an ignore file."""
    rules = []
    for line in lines:
        text = line.rstrip("\r\n")
        bare = text.rstrip(" ")
        # An escaped blank at the end belongs to the pattern.
        text = text[: len(bare) + 1] if bare.endswith("\\") and bare != text else bare
        if not text or text.startswith("#") or not text.strip("!/"):
            continue
        rules.append(Rule(text, base))
    return rules


class Ignores:
    """What a tree leaves out. `enter` each folder before asking about what is in it."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._rules: list[Rule] = []
        self._outer: list[tuple[str, list[Rule]]] = []
        self._git = not (top / SKYIGNORE).is_file()
        if not self._git:
            self._rules = _read(top / SKYIGNORE, "")
        else:
            self._outer = _outer_rules(top)

    def enter(self, folder: str) -> None:
        """Read the ignore file of a folder ("" for the top) if it has one of its own."""
        if self._git:
            self._rules += _read(self._top / folder / GITIGNORE, folder)

    def leaves_out(self, path: str, is_dir: bool) -> bool:
        """Whether a path stays behind; the last rule that matches decides, nearer files over farther ones."""
        for rule in reversed(self._rules):
            if rule.matches(path, is_dir):
                return not rule.negated
        for prefix, rules in self._outer:
            for rule in reversed(rules):
                if rule.matches(f"{prefix}{path}", is_dir):
                    return not rule.negated
        return False


def _read(path: Path, base: str) -> list[Rule]:
    try:
        return parse(path.read_text(encoding="utf-8", errors="surrogateescape").splitlines(), base)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return []


def _outer_rules(top: Path) -> list[tuple[str, list[Rule]]]:
    """Rules from above a tree that lies inside a repository, nearest first, each with the tree's path from there.

    None count for a tree that the repository leaves out as a whole: who names it wants it.
    """
    found: list[tuple[Path, list[Rule]]] = []
    top = Path(os.path.abspath(top))  # noqa: PTH100 - links in the path are kept as the user wrote them
    for folder in (top, *top.parents):
        if folder != top:
            found.append((folder, _read(folder / GITIGNORE, "")))
        if (folder / ".git").exists():
            found.append((folder, _read(folder / ".git" / "info" / "exclude", "")))
            between = [top, *top.parents][: len(top.relative_to(folder).parts)]
            if any(_left_out(each, found) for each in between):
                return []
            return [(_prefix(top, each), rules) for each, rules in found]
    # Not in a repository: what lies above the tree has no say.
    return []


def _prefix(top: Path, folder: Path) -> str:
    return "" if folder == top else top.relative_to(folder).as_posix() + "/"


def _left_out(path: Path, found: list[tuple[Path, list[Rule]]]) -> bool:
    for folder, rules in found:
        if folder in path.parents:
            inside = path.relative_to(folder).as_posix()
            for rule in reversed(rules):
                if rule.matches(inside, True):
                    return not rule.negated
    return False
