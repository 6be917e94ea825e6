"""Builds the agent's zip: the modules of `sky.agent` and an entry point, the same bytes for the same sources.

Called by `bootstrap.py`. The version is a hash of the sources, so that an agent is replaced exactly when it would
differ. Compiled code for the interpreter that builds goes along, which halves the start on nodes of the same Python;
others compile the sources.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import marshal
import sys
import zipfile
from functools import cache
from importlib import resources
from types import CodeType
from typing import NamedTuple

_ENTRY = """\
import sys

if sys.version_info < (3, 8):
    sys.stderr.write("agent: needs Python 3.8 or newer, this is " + sys.version.split()[0] + chr(10))
    sys.exit(2)

from agent.entry import enter

sys.exit(enter(sys.argv))
"""
_EPOCH = (1980, 1, 1, 0, 0, 0)


class Package(NamedTuple):
    """The agent as bytes, and its version."""

    version: str
    data: bytes


@cache
def build() -> Package:
    """Return the zip; built once per process."""
    folder = resources.files("sky.agent")
    sources = {item.name: item.read_bytes() for item in folder.iterdir() if item.name.endswith(".py")}
    digest = hashlib.sha256(_ENTRY.encode())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "__main__.py", _ENTRY.encode())
        for name, source in sorted(sources.items()):
            digest.update(name.encode() + b"\0" + source + b"\0")
            _add(archive, "agent/" + name, source)
            _add(archive, "agent/" + name + "c", _compiled("agent/" + name, source))
    return Package(digest.hexdigest()[:16], out.getvalue())


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED, compresslevel=9)


def _compiled(name: str, source: bytes) -> bytes:
    """Compiled code without docstrings, flagged so that zipimport takes it for current whatever the times say."""
    # Marshalled code shows which strings are interned, and one of a single character is shared by all of the process.
    for each in range(256):
        sys.intern(chr(each))
    code: CodeType = compile(source, name, "exec", dont_inherit=True, optimize=2)
    flags = (0b01).to_bytes(4, "little")
    return importlib.util.MAGIC_NUMBER + flags + importlib.util.source_hash(source) + marshal.dumps(code)
