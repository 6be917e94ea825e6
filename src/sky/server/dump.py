"""What helps to find a fault, as one zip without secrets. Written for `sky debug-dump` by `server.routes.upkeep`.

Nothing that a user said to a task is in it: those fields leave the records as a mark. Of the configuration the names
are kept, and such values as cannot be secret.
"""

import asyncio
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sky.version import API_VERSION, __version__

if TYPE_CHECKING:
    from sky.server.api import Api

#: Rows and lines of each kind, and bytes of each log, at most.
_MOST_ROWS = 2000
_MOST_BYTES = 1024 * 1024
_MOST_TALKS = 50


async def write_dump(api: "Api", path: Path) -> None:
    """Write the zip into a new file of its owner's. Raises OSError."""
    rows = await api.plane.upkeep.rows(_MOST_ROWS)
    trouble = await api.plane.upkeep.trouble()
    parts = {
        "version.json": _json(_about(api, trouble)),
        "configuration.json": _json(shapes(api.plane.configuration())),
        "metrics.txt": (await api.metrics_text()).encode(),
        **{f"rows/{name}.json": _json(list(found)) for name, found in rows.items()},
        "server.log": tail(api.settings.log_file),
    }
    for request in list(rows.get("requests", ()))[:_MOST_TALKS]:
        said = tail(await api.plane.progress(str(request["id"])))
        if said:
            parts[f"talks/{request['id']}.txt"] = said
    await asyncio.to_thread(_write, path, parts)


def _write(path: Path, parts: Mapping[str, bytes]) -> None:
    import zipfile  # noqa: PLC0415 - milliseconds of every start of a server, for what is asked once in a while

    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in parts.items():
            made.writestr(name, content)


def _about(api: "Api", trouble: list[str]) -> dict[str, object]:
    return {
        "version": __version__,
        "api_version": API_VERSION,
        "python": sys.version,
        "system": platform.platform(),
        "role": api.settings.role.value,
        "database": "sqlite" if api.settings.database is None else "postgresql",
        "tcp": api.settings.host is not None,
        "started_at": api.started_at,
        "written_at": api.plane.clock.now(),
        "trouble": trouble,
    }


def shapes(value: object) -> object:
    """A configuration with its names, numbers and switches; of every text only its length."""
    if isinstance(value, Mapping):
        return {str(name): shapes(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [shapes(each) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return f"<text of {len(str(value))}>"


def tail(path: Path) -> bytes:
    """The end of a file; nothing of one that is not there."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _MOST_BYTES))
            return file.read()
    except OSError:
        return b""


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, default=str).encode()
