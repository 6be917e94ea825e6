"""A Python for nodes that have none: an archive that the configuration names, or this server's own, packed.

Given by `server.fleet` to the channels of nodes, which send it once. The agent is all that runs with it: what a job
calls `python` is the job's own affair.
"""

from __future__ import annotations

import asyncio
import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from .errors import NoPython

_LARGEST = 512 << 20
_FETCH_S = 120.0
#: Of the standard library, what an agent has no use for and what would be large.
_NOT = re.compile(
    r"(test|tests|idlelib|tkinter|turtledemo|turtle|ensurepip|lib2to3|distutils|pydoc_data|site-packages|unittest|venv|"
    r"msilib|curses|dbm|wsgiref|xmlrpc|__pycache__|config-.*|(_?test|_xx|xx|_tkinter|_curses|readline|_dbm|_gdbm|"
    r"_ctypes_test|nis|ossaudiodev|_codecs_[a-z]*).*)(\.py)?\Z"
)
#: What an agent loads when it starts goes along in compiled form, too.
_AT_START = ("asyncio", "sqlite3", "hashlib", "ssl", "zipimport")
#: Part of every system whose libc fits.
_OF_LIBC = re.compile(
    r"(ld-linux|linux-vdso|libc\.|libm\.|libdl\.|libpthread\.|librt\.|libutil\.|libresolv\.|libnsl\.)"
)

_SEEN = """
import importlib, json, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
print(json.dumps([path for path in (getattr(each, "__file__", None) for each in list(sys.modules.values())) if path]))
"""

_LAUNCHER = """#!/bin/sh
# The libraries that this Python brings are for it alone, and for nothing that it starts.
top=${{0%/bin/*}}
exec {loader} --library-path "$top/own" "$top/bin/{name}" "$@"
"""


class Interpreters:
    """Finds what fits a node. `settings` is the configuration's section `provision`; `folder` keeps what is fetched."""

    def __init__(self, settings: Callable[[], Mapping[str, Any]], folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._gate = asyncio.Lock()
        self._own: bytes | None = None

    async def archive(self, machine: str, libc: str) -> bytes:
        """A gzipped tar with `bin/python3`, for a node of this system and libc. Raises NoPython with what to do."""
        settings = self._settings()
        named = settings.get("python_archive")
        async with self._gate:
            if named:
                return await asyncio.to_thread(self._named, str(named), settings.get("python_archive_sha256"))
            self._check(machine, libc)
            if self._own is None:
                self._own = await asyncio.to_thread(pack)
            return self._own

    def _check(self, machine: str, libc: str) -> None:
        system = os.uname()
        here, mine = f"{system.sysname} {system.machine}", _libc_here()
        theirs = _version(libc)
        if machine == here and mine and theirs and theirs >= mine:
            return
        raise NoPython(
            f"the node has no Python 3.8 or newer, and this server's own does not run there: it is {machine or '?'} "
            f"with {libc or 'an unknown libc'}, and here is {here} with glibc {'.'.join(map(str, mine)) or '?'}. "
            "Install Python on the node, or name an archive of a standalone one in the configuration as "
            "provision.python_archive"
        )

    def _named(self, source: str, digest: object) -> bytes:
        wanted = None if digest is None else str(digest).lower()
        try:
            data = self._fetched(source, wanted) if re.match(r"https?://", source) else _read(source)
        except OSError as error:
            raise NoPython(f"provision.python_archive: {source} cannot be read: {error}") from error
        if wanted not in (None, found := hashlib.sha256(data).hexdigest()):
            raise NoPython(f"provision.python_archive: {source} has the SHA-256 {found}, expected {digest}")
        try:
            return _as_gzip(data)
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise NoPython(f"provision.python_archive: {source} is damaged: {error}") from error

    def _fetched(self, url: str, digest: str | None) -> bytes:
        """From the web, unless it was fetched before; what is not what was wanted is not kept."""
        kept = self._folder / f"python-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
        if kept.exists():
            data = kept.read_bytes()
            if digest in (None, hashlib.sha256(data).hexdigest()):
                return data
        with closing(urllib.request.urlopen(url, timeout=_FETCH_S)) as answer:  # noqa: S310 - http and https alone
            data = bytes(answer.read(_LARGEST + 1))
        if len(data) > _LARGEST:
            raise OSError(f"larger than {_LARGEST >> 20} MiB")
        if digest in (None, hashlib.sha256(data).hexdigest()):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = kept.with_suffix(f".{os.getpid()}")
            fresh.write_bytes(data)
            fresh.replace(kept)
        return data


def _read(source: str) -> bytes:
    return Path(source).expanduser().read_bytes()


def pack() -> bytes:
    """This process's interpreter with the part of the library that the agent uses, as a gzipped tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=6) as archive:
        binary = Path(sys.executable).resolve()
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        archive.add(binary, f"bin/{version}", filter=_plain)
        natives = [binary]
        library = Path(sysconfig.get_path("stdlib"))
        for path in sorted(set(_library(library))):
            archive.add(path, f"lib/{version}/{path.relative_to(library)}", filter=_plain, recursive=False)
            if path.suffix == ".so":
                natives.append(path)
        loader = _add_libraries(archive, natives)
        launcher = _LAUNCHER.format(loader=loader, name=version).encode()
        entry = tarfile.TarInfo("bin/python3")
        entry.size, entry.mode = len(launcher), 0o755
        archive.addfile(entry, io.BytesIO(launcher))
    return out.getvalue()


def _library(library: Path) -> Iterator[Path]:
    """Files of the standard library that go along."""
    for folder, folders, files in os.walk(library):
        folders[:] = sorted(name for name in folders if not _NOT.match(name))
        yield from (Path(folder) / name for name in files if name.endswith((".py", ".so")) and not _NOT.match(name))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _SEEN, *_AT_START], capture_output=True, check=True, timeout=60
    )
    for text in json.loads(done.stdout):
        path = Path(text)
        if path.suffix == ".py" and path.is_relative_to(library):
            yield from _compiled(path)


def _compiled(path: Path) -> Iterator[Path]:
    yield from (path.parent / "__pycache__").glob(f"{path.stem}.{sys.implementation.cache_tag}.pyc")


def _add_libraries(archive: tarfile.TarFile, natives: list[Path]) -> str:
    """Add what the binaries are linked with, without libc; the loader's path."""
    done = subprocess.run(["ldd", *map(str, natives)], capture_output=True, text=True, check=False, timeout=60)
    loader, added = "", set()
    for line in done.stdout.splitlines():
        if found := re.match(r"\s+(\S+) => (/\S+) \(", line):
            name, path = found.groups()
            if name not in added and not _OF_LIBC.match(name):
                added.add(name)
                archive.add(Path(path).resolve(), f"own/{name}", filter=_plain)
        elif found := re.match(r"\s+(/\S*ld\S*\.so\S*) \(", line):
            loader = found[1]
    if not loader:
        raise NoPython(
            "the node has no Python 3.8 or newer, and this server's own cannot be packed: ldd finds no loader"
        )
    return loader


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode |= 0o600
    return entry


def _as_gzip(data: bytes) -> bytes:
    """As what every node can unpack."""
    if data[:2] == b"\x1f\x8b":
        return data
    if data[:6] == b"\xfd7zXZ\0":
        return gzip.compress(lzma.decompress(data), 1)
    if data[:3] == b"BZh":
        return gzip.compress(bz2.decompress(data), 1)
    if data[257:262] == b"ustar":
        return gzip.compress(data, 1)
    raise OSError("not a tar that is packed with gzip, bzip2 or xz")


def _libc_here() -> tuple[int, ...]:
    try:
        return _version(os.confstr("CS_GNU_LIBC_VERSION") or "")
    except (ValueError, OSError):
        return ()


def _version(text: str) -> tuple[int, ...]:
    """Of glibc, from what `getconf` or `ldd` say; empty for another libc."""
    if "musl" in text.lower() or not re.search(r"glibc|gnu libc|ldd \(", text, re.IGNORECASE):
        return ()
    found = re.findall(r"\b(\d+)\.(\d+)\b", text)
    return tuple(map(int, found[-1])) if found else ()
