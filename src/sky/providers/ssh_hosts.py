"""Reads files in ssh_config(5)'s syntax, as far as reaching a host takes: pools and batch systems name hosts there.

Our own reader rather than the SSH library's: it says where a host was named, lists the hosts of a file, and starts
no program (`Match exec` is passed over).
"""

from __future__ import annotations

import fnmatch
import getpass
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: Bounds of a file that somebody wrote by hand.
_MOST_BYTES = 1 << 20
_DEEPEST_INCLUDE = 8


@dataclass(slots=True)
class _Block:
    patterns: tuple[str, ...]
    options: list[tuple[str, str]] = field(default_factory=list)


class SshHosts:
    """One file, with what it includes."""

    def __init__(self, path: Path, home: Path) -> None:
        """A file that does not exist, or cannot be read, names no hosts."""
        self._home = home
        self._blocks = [_Block(("*",))]
        self._read(path, 0)

    def names(self) -> Sequence[str]:
        """Hosts that are named without a pattern, as they stand."""
        plain = [each for block in self._blocks for each in block.patterns if not set(each) & set("*?!")]
        return list(dict.fromkeys(plain))

    def reach(self, name: str, *, over: Mapping[str, str] | None = None) -> dict[str, str]:
        """How a host is reached, in the keys of `core.model.clusters.Instance.reach`; `over` wins where not empty.

        A name that the file does not know is an address. Without a user, it is who runs this.
        """
        found = self._options(name)
        reach = {
            "kind": "ssh",
            "host": found.get("hostname", name).replace("%h", name),
            "port": found.get("port", "22"),
            "user": found.get("user", ""),
            "identity": self._path(found.get("identityfile", "")),
            "jump": self._jump(found.get("proxyjump", "")),
            "proxy_command": "" if found.get("proxycommand", "none") == "none" else found["proxycommand"],
        }
        given = {key: value for key, value in (over or {}).items() if value}
        if "identity" in given:
            given["identity"] = self._path(given["identity"])
        reach |= given
        reach["user"] = reach["user"] or getpass.getuser()
        return {key: value for key, value in reach.items() if value}

    def _options(self, name: str) -> dict[str, str]:
        """Options of a host by their lower-case names; the first that is met counts."""
        found: dict[str, str] = {}
        for block in self._blocks:
            if _matches(name, block.patterns):
                for key, value in block.options:
                    found.setdefault(key, value)
        return found

    def _jump(self, said: str) -> str:
        """A chain of hops as `user@host:port`, each looked up in the file as SSH does."""
        hops = []
        for hop in [] if said in ("", "none") else said.split(","):
            user, _, place = hop.strip().removeprefix("ssh://").rpartition("@")
            host, colon, port = place.rpartition(":")
            host, port = (host, port) if colon and port.isdigit() else (place, "")
            known = self._options(host)
            user = user or known.get("user", "") or getpass.getuser()
            hops.append(f"{user}@{known.get('hostname', host)}:{port or known.get('port', '22')}")
        return ",".join(hops)

    def _path(self, said: str) -> str:
        if not said or said == "none":
            return ""
        text = said.replace("%d", str(self._home))
        return str(self._home / text[2:]) if text.startswith("~/") else text

    def _read(self, path: Path, depth: int) -> None:
        try:
            with path.open("rb") as file:
                text = file.read(_MOST_BYTES).decode("utf-8", "replace")
        except OSError:
            return
        for key, words in _lines(text):
            if key == "host":
                self._blocks.append(_Block(tuple(words)))
            elif key == "match":
                every = [word.lower() for word in words] == ["all"]
                self._blocks.append(_Block(("*",) if every else ()))
            elif key == "include" and depth < _DEEPEST_INCLUDE:
                within = self._blocks[-1].patterns
                for word in words:
                    self._include(path, word, depth)
                self._blocks.append(_Block(within))
            elif words:
                self._blocks[-1].options.append((key, _value(key, words)))

    def _include(self, path: Path, word: str, depth: int) -> None:
        named = path.parent / self._path(word)
        for each in sorted(named.parent.glob(named.name)):
            self._read(each, depth + 1)


def _lines(text: str) -> Iterator[tuple[str, list[str]]]:
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        key, _, rest = stripped.replace("=", " ", 1).partition(" ") if _equals(stripped) else _halves(stripped)
        if key.lower() == "proxycommand":
            yield "proxycommand", [rest.strip()]
            continue
        try:
            yield key.lower(), shlex.split(rest)
        except ValueError:
            yield key.lower(), rest.split()


def _equals(line: str) -> bool:
    """Whether key and value are set apart by `=`, which SSH allows once."""
    key = line.partition("=")[0].rstrip()
    return "=" in line and key.isalnum()


def _halves(line: str) -> tuple[str, str, str]:
    words = line.split(None, 1)
    return words[0], " ", words[1] if len(words) > 1 else ""


def _value(key: str, words: Sequence[str]) -> str:
    return words[0] if key != "proxycommand" else " ".join(words)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    if any(each.startswith("!") and fnmatch.fnmatchcase(name, each[1:]) for each in patterns):
        return False
    return any(fnmatch.fnmatchcase(name, each) for each in patterns if not each.startswith("!"))
