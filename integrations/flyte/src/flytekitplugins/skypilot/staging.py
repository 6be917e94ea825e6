"""What a node needs that only this machine has, and how it comes back: the user's modules, inputs, outputs.

Asked by `task` (where is the source), by `connector` (lay it out for the upload; bring back what the log carries).
With an object store as prefix nothing of this is needed but the plugin itself.
"""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from flytekit.core.tracker import extract_task_module
from flytekit.models.literals import Literal, LiteralMap

from flytekitplugins.skypilot.node import MARK, MOST_PACKED

#: Bytes that they may have unpacked.
_MOST_UNPACKED = 1 << 30
#: Files of one user's source beyond which something else than source is meant.
_MOST_MODULES = 5_000

_PIECE = re.compile(MARK + r" ([A-Za-z0-9+/=]+)")


def source_of(function: Callable[..., Any]) -> dict[str, str]:
    """`{"root": folder from which the function's module is imported, "file": the file that has it}`."""
    _, module, _, path = extract_task_module(function)
    file = Path(path).resolve()
    root = file.parent
    packages = module.count(".") - (1 if file.name == "__init__.py" else 0)
    for _ in range(max(0, packages)):
        root = root.parent
    return {"root": str(root), "file": str(file)}


def lay_out_source(source: dict[str, str], folder: Path) -> None:
    """Copy the modules that this process has imported from below the root, and the task's own file, to `folder`.

    Not the whole root: that may be somebody's home.
    """
    root = Path(source["root"])
    for number, file in enumerate(_modules_below(root, Path(source["file"]))):
        if number >= _MOST_MODULES:
            raise ValueError(f"More than {_MOST_MODULES} imported modules lie below {root}; is it a source folder?")
        _copy(file, folder / file.relative_to(root))


def lay_out_inputs(prefix: str, inputs: LiteralMap | None, folder: Path) -> None:
    """Copy the inputs, and the local files that they name, below `folder` under their absolute paths."""
    for path in (Path(prefix) / "inputs.pb", *_local_files(inputs)):
        if path.exists():
            _copy(path, folder / path.absolute().relative_to("/"))


def is_local(uri: str) -> bool:
    """Whether a place is one of this machine's file system."""
    return "://" not in uri or uri.startswith("file://")


def unpack(lines: Iterable[str], into: Path) -> bool:
    """Write the files that lines of a log carry to `into`; whether there were any. Raises ValueError for bad ones."""
    packed = bytearray()
    for line in lines:
        for piece in _PIECE.findall(line):
            packed += base64.b64decode(piece, validate=True)
            if len(packed) > 2 * MOST_PACKED:
                raise ValueError(f"the log carries more than {2 * MOST_PACKED >> 20} MiB of files")
    if not packed:
        return False
    with tarfile.open(fileobj=io.BytesIO(bytes(packed)), mode="r:gz") as archive:
        # Python's own filter besides, which 3.11 has since 3.11.4 and Debian 12 has not.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(into, members=_admitted(archive))  # noqa: S202 - each is looked at
    return True


def _admitted(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Its members, as long as they are not more than may be, and lie in the folder where they are unpacked.

    The node that packed them is not trusted. Raises ValueError at the first that is wrong.
    """
    room = _MOST_UNPACKED
    links: set[PurePosixPath] = set()
    for member in archive:
        room -= member.size
        if room < 0:
            raise ValueError(f"the files of the task are more than {_MOST_UNPACKED >> 20} MiB")
        name, kind = PurePosixPath(member.name), member.type
        good = _inside(name, links)
        if kind == tarfile.SYMTYPE:
            good = good and _leads_inside(name, PurePosixPath(member.linkname))
            links.add(name)
        elif kind == tarfile.LNKTYPE:
            good = good and _inside(PurePosixPath(member.linkname), links)
        else:
            good = good and (member.isfile() or member.isdir())
        if not good:
            raise ValueError(f"'{member.name}' among the files of the task is none, or lies elsewhere")
        member.mode = member.mode & 0o755 | (0o700 if member.isdir() else 0o600)
        member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
        yield member


def _inside(name: PurePosixPath, links: set[PurePosixPath]) -> bool:
    """Whether it is below the folder, and not reached by a link: so paths can be judged by their text."""
    return not name.is_absolute() and ".." not in name.parts and links.isdisjoint(name.parents)


def _leads_inside(name: PurePosixPath, target: PurePosixPath) -> bool:
    """Whether a link by this name stays in the folder: it climbs first, not above the folder, and goes down then.

    What it meets on its way down are folders, and links of which the same is true.
    """
    ups = next((at for at, part in enumerate(target.parts) if part != ".."), len(target.parts))
    return not target.is_absolute() and ups < len(name.parts) and ".." not in target.parts[ups:]


def _modules_below(root: Path, first: Path) -> Iterator[Path]:
    yield first
    apart = [Path(each).resolve() for each in (sys.prefix, sys.base_prefix)]
    # By its text first: to resolve the paths of some thousand modules takes longer than all the rest of a launch.
    begins = (f"{root}/", f"{Path.cwd()}/")
    for module in list(sys.modules.values()):
        named = getattr(module, "__file__", None)
        if (
            not isinstance(named, str)
            or "/site-packages/" in named
            or (named[0] == "/" and not named.startswith(begins))
        ):
            continue
        file = Path(named).resolve()
        if file == first or not file.is_relative_to(root):
            continue
        # An interpreter may lie below the root (`.venv`), or the root in the interpreter's own folder.
        if file.is_file() and not any(file.is_relative_to(each) and not root.is_relative_to(each) for each in apart):
            yield file


def _local_files(inputs: LiteralMap | None) -> Iterator[Path]:
    for literal in (inputs.literals if inputs is not None else {}).values():
        for uri in _uris(literal):
            if is_local(uri):
                yield Path(uri.removeprefix("file://"))


def _uris(literal: Literal) -> Iterator[str]:
    if literal.collection is not None:
        for each in literal.collection.literals:
            yield from _uris(each)
    elif literal.map is not None:
        for each in literal.map.literals.values():
            yield from _uris(each)
    elif literal.scalar is not None:
        scalar = literal.scalar.union.value.scalar if literal.scalar.union is not None else literal.scalar
        for kind in ("blob", "schema", "structured_dataset"):
            found = getattr(scalar, kind, None)
            if found is not None and found.uri:
                yield str(found.uri)


def _copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if file.is_dir():
        shutil.copytree(file, to, dirs_exist_ok=True)
    else:
        shutil.copyfile(file, to)
