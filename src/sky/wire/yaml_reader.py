"""YAML texts as plain data that remembers where each value stood: the reader of every file a user writes.

PyYAML's C scanner gives events; the tree is built here, without recursion on hostile input, with bounds on size, depth
and aliases, and with line and column kept per path. ``task_yaml`` and ``config`` call it; whatever is wrong with a text
leaves as ``InvalidSkyPilotConfigError`` with ``file:line:column``, never as an error of the YAML library.

Differences from YAML 1.1 as commonly read, each because users are surprised otherwise: dates and base-60 numbers stay
texts, keys are the text that was written (``NO`` is no boolean), and a caller may ask for written text at given paths.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.schema import Path, describe, shorten

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 100_000

_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = tuple(_TAG + name for name in ("null", "bool", "int", "float", "str", "timestamp", "value", "merge"))
_INT = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|[0-9][0-9_]*)")

#: Digits beyond this are no amount; Python refuses to convert very long ones.
_MAX_DIGITS = 400

#: Says of a path whether its scalar is wanted as the text that was written.
WantsText = Callable[[Path], bool]


def _never(path: Path) -> bool:
    return False


@dataclass(slots=True)
class _Node:
    """A node of the tree. ``size`` and ``depth`` count what aliases stand for: a bomb is seen before it bursts."""

    kind: str
    line: int
    column: int
    tag: str = ""
    text: str = ""
    items: list[_Node] = field(default_factory=list)
    size: int = 1
    depth: int = 1
    open: bool = False


@dataclass(slots=True)
class Document:
    """One YAML document: plain data and where each part of it stood. Lines and columns count from 1."""

    data: Any
    source: str
    places: dict[Path, tuple[int, int]]

    def locate(self, path: Path) -> str:
        """Return ``file:line:column`` of a path, or of the nearest part of it that exists."""
        while path not in self.places and path:
            path = path[:-1]
        line, column = self.places.get(path, (1, 1))
        return f"{self.source}:{line}:{column}"


def fail(source: str, kind: str, line: int, column: int, reason: str) -> InvalidSkyPilotConfigError:
    """Return the error for a text that is no YAML of ours."""
    where = f"{source}:{line}:{column}" if line else source
    return InvalidSkyPilotConfigError(f"Invalid {kind} YAML: {where}: {reason}", problems=[f"{where}: {reason}"])


def read_documents(
    text: str | bytes, source: str = "<text>", *, kind: str = "task", wants_text: WantsText = _never
) -> list[Document]:
    """Return the documents of a YAML text; empty ones have ``None`` as data, an empty text has none.

    source: what messages call the text, usually a path as the user gave it. kind: the word in "Invalid <kind> YAML".
    """
    return _Reader(source, kind, wants_text).read(text)


class _Reader:
    """Reads one text; holds what all of its documents share."""

    def __init__(self, source: str, kind: str, wants_text: WantsText) -> None:
        self._source = source
        self._kind = kind
        self._wants_text = wants_text
        # Loaded here, not above: 30 ms that programs which build tasks without files need not pay.
        self._yaml: Any = importlib.import_module("yaml")
        self._resolver = importlib.import_module("yaml.resolver").Resolver()

    def _fail(self, reason: str, line: int = 0, column: int = 0) -> InvalidSkyPilotConfigError:
        return fail(self._source, self._kind, line, column, reason)

    def read(self, text: str | bytes) -> list[Document]:
        roots = self._compose(self._decode(text))
        documents = []
        for root in roots:
            places: dict[Path, tuple[int, int]] = {}
            documents.append(Document(self._build(root, (), places), self._source, places))
        return documents

    def _decode(self, text: str | bytes) -> str:
        if len(text) > MAX_BYTES:
            raise self._fail(f"found {len(text)} bytes; allowed: at most {MAX_BYTES}. Is this really a YAML file?")
        if isinstance(text, bytes):
            if b"\0" in text:
                raise self._fail("found a binary file; allowed: YAML text")
            try:
                decoded = text.decode("utf-8")
            except UnicodeDecodeError as exc:
                line = text.count(b"\n", 0, exc.start) + 1
                raise self._fail(
                    f"found bytes that are not UTF-8 in line {line}; save the file as UTF-8", line, 1
                ) from None
        else:
            decoded = text
        text = decoded.removeprefix("\ufeff")
        if "\0" in text:
            raise self._fail("found a NUL character; allowed: YAML text")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise self._fail("found half a character (a lone surrogate); allowed: UTF-8 text") from None
        return text

    # --- events to nodes ---------------------------------------------------------------------------------------------

    def _compose(self, text: str) -> list[_Node]:
        # The C parser is some ten times faster; where it was not compiled, the pure one gives the same events.
        loader = getattr(self._yaml, "CSafeLoader", self._yaml.SafeLoader)(text)
        try:
            return self._compose_events(loader)
        except self._yaml.MarkedYAMLError as exc:
            mark = exc.problem_mark or exc.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            written = text.split("\n")[line - 1] if 0 < line <= text.count("\n") + 1 else ""
            raise self._fail(_explain(exc, written), line, column) from None
        except self._yaml.YAMLError as exc:
            raise self._fail(shorten(f"found something that is no YAML text: {str(exc).splitlines()[0]}")) from None
        finally:
            loader.dispose()

    def _compose_events(self, loader: Any) -> list[_Node]:
        roots: list[_Node] = []
        stack: list[_Node] = []
        anchors: dict[str, _Node] = {}
        while loader.check_event():
            event = loader.get_event()
            if isinstance(event, self._yaml.DocumentStartEvent):
                anchors.clear()
            elif isinstance(event, self._yaml.CollectionEndEvent):
                node = stack.pop()
                node.open = False
                self._attach(node, stack, roots)
            elif isinstance(event, self._yaml.NodeEvent):
                node = self._node(event, anchors)
                if node.open:
                    stack.append(node)
                    if len(stack) > MAX_DEPTH:
                        raise self._fail(f"found nesting deeper than {MAX_DEPTH}", node.line, node.column)
                else:
                    self._attach(node, stack, roots)
        return roots

    def _node(self, event: Any, anchors: dict[str, _Node]) -> _Node:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, self._yaml.AliasEvent):
            return self._alias(event.anchor, anchors, line, column)
        if isinstance(event, self._yaml.ScalarEvent):
            tag = event.tag or self._resolver.resolve(self._yaml.ScalarNode, event.value, event.implicit)
            node = _Node("scalar", line, column, tag, event.value)
        else:
            kind = "mapping" if isinstance(event, self._yaml.MappingStartEvent) else "sequence"
            node = _Node(kind, line, column, event.tag or "", open=True)
            if node.tag not in (
                "",
                "!",
                _TAG + {"mapping": "map", "sequence": "seq"}[kind],
                _TAG + "set",
                _TAG + "omap",
            ):
                raise self._unknown_tag(node)
        if event.anchor is not None:
            anchors[event.anchor] = node
        return node

    def _alias(self, name: str | None, anchors: dict[str, _Node], line: int, column: int) -> _Node:
        target = anchors.get(name or "")
        if target is None:
            raise self._fail(f"found the alias '*{shorten(str(name))}' without its anchor", line, column)
        if target.open:
            raise self._fail(f"found the alias '*{shorten(str(name))}' inside what it stands for", line, column)
        # Places of an aliased part are those of the alias, so that a message leads to the line that uses it.
        return _Node(target.kind, line, column, target.tag, target.text, target.items, target.size, target.depth)

    def _attach(self, node: _Node, stack: list[_Node], roots: list[_Node]) -> None:
        if not stack:
            roots.append(node)
            return
        parent = stack[-1]
        parent.items.append(node)
        parent.size += node.size
        parent.depth = max(parent.depth, node.depth + 1)
        if parent.size > MAX_NODES or parent.depth > MAX_DEPTH:
            raise self._fail(
                f"found more than {MAX_NODES} values or {MAX_DEPTH} levels once aliases are written out",
                node.line,
                node.column,
            )

    def _unknown_tag(self, node: _Node) -> InvalidSkyPilotConfigError:
        tag = node.tag.replace(_TAG, "!!")
        return self._fail(f"found the tag '{shorten(tag)}'; allowed: plain values without tags", node.line, node.column)

    # --- nodes to data -----------------------------------------------------------------------------------------------

    def _build(self, node: _Node, path: Path, places: dict[Path, tuple[int, int]]) -> Any:
        places.setdefault(path, (node.line, node.column))
        if node.kind == "scalar":
            return self._scalar(node, self._wants_text(path))
        if node.kind == "sequence":
            return [self._build(item, (*path, index), places) for index, item in enumerate(node.items)]
        return self._mapping(node, path, places)

    def _mapping(self, node: _Node, path: Path, places: dict[Path, tuple[int, int]]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        merged: list[_Node] = []
        lines: dict[str, int] = {}
        for key_node, value_node in zip(node.items[::2], node.items[1::2], strict=True):
            if key_node.tag == _TAG + "merge":
                merged += value_node.items if value_node.kind == "sequence" else [value_node]
                continue
            key = self._key(key_node)
            if key in data:
                raise self._fail(
                    f"found the key '{shorten(key)}' twice, first in line {lines[key]}; allowed: once",
                    key_node.line,
                    key_node.column,
                )
            lines[key] = key_node.line
            places[(*path, key)] = (key_node.line, key_node.column)
            data[key] = self._build(value_node, (*path, key), places)
        for source in merged:
            if source.kind != "mapping":
                raise self._fail("found '<<' with something that is no mapping", source.line, source.column)
            for key, value in self._mapping(source, path, places).items():
                data.setdefault(key, value)
        return data

    def _key(self, node: _Node) -> str:
        if node.kind != "scalar":
            raise self._fail(f"found a {node.kind} as a key; allowed: texts", node.line, node.column)
        if node.tag == _TAG + "null":
            raise self._fail("found an empty key; allowed: texts", node.line, node.column)
        if node.tag not in (*_SCALAR_TAGS, "!"):
            raise self._unknown_tag(node)
        return node.text

    def _scalar(self, node: _Node, as_text: bool) -> Any:
        tag = node.tag
        if tag not in (*_SCALAR_TAGS, "!"):
            raise self._unknown_tag(node)
        if tag == _TAG + "null":
            return None
        if as_text or tag not in (_TAG + "bool", _TAG + "int", _TAG + "float"):
            return node.text
        if tag == _TAG + "bool":
            return self._bool(node)
        try:
            return _number(node.text)
        except ValueError:
            raise self._fail(f"found '{shorten(node.text)}', which is no number", node.line, node.column) from None

    def _bool(self, node: _Node) -> bool:
        word = node.text.lower()
        if word not in ("yes", "true", "on", "no", "false", "off"):
            raise self._fail(f"found '{shorten(node.text)}', which is neither true nor false", node.line, node.column)
        return word in ("yes", "true", "on")


def _number(text: str) -> int | float | str:
    """Return a YAML 1.1 number; base 60 (``1:30``) stays a text, as nobody means it."""
    if ":" in text:
        return text
    if len(text) > _MAX_DIGITS:
        raise ValueError(text)
    if _INT.fullmatch(text):
        bare = text.replace("_", "").lower()
        digits = bare.lstrip("+-")
        if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
            bare = bare[: len(bare) - len(digits)] + "0o" + digits[1:]
        return int(bare, 0)
    bare = text.replace("_", "").lower()
    return float(bare.replace(".inf", "inf").replace(".nan", "nan"))


def _explain(exc: Any, written: str) -> str:
    """Return the scanner's complaint in words that say what to do; ``written`` is the line it complains about."""
    problem = exc.problem or "no YAML"
    if "\t" in written[: len(written) - len(written.lstrip())]:
        return "found a tab where spaces are due; indent with spaces"
    if "mapping values are not allowed" in problem:
        return "found a ':' that makes no key here; check the indentation, or put the value in quotes"
    if "found undefined tag handle" in problem or "tag" in problem:
        return "found a tag; allowed: plain values without tags"
    if "did not find expected" in problem:
        return f"{problem}; check indentation, brackets and quotes"
    return shorten(f"{problem} {exc.context or ''}")


def expect_mapping(document: Document, kind: str) -> dict[str, Any]:
    """Return the document's mapping (empty for an empty document) or raise with what stood there instead."""
    if document.data is None:
        return {}
    if isinstance(document.data, dict):
        return document.data
    line, column = document.places.get((), (1, 1))
    looks = ""
    if isinstance(document.data, str):
        looks = f" ({shorten(document.data)}). This looks like a shell command; put it under 'run:'"
    raise fail(
        document.source, kind, line, column, f"found {describe(document.data)}; allowed: a mapping of fields{looks}"
    )
