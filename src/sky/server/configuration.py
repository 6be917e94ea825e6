"""The server's own configuration file, read again when it changes; `assembly` hands sections of it to providers."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from sky.core.model.schema import Locator

_NOWHERE = Path(os.devnull)


class ConfigFile:
    """`~/.sky/config.yaml`, or the file that `SKYPILOT_GLOBAL_CONFIG` names; `over` is laid over it."""

    def __init__(self, over: Mapping[str, object]) -> None:
        self._over = over
        self._seen: tuple[str, int] | None = None
        self._values: Mapping[str, object] = {}

    def section(self, name: str) -> Mapping[str, object]:
        """One section as it is now; empty if absent. Raises InvalidSkyPilotConfigError with file, line and column."""
        found = self._over.get(name, self._current().get(name))
        return found if isinstance(found, Mapping) else {}

    def text(self, name: str) -> str | None:
        """A text outside of all sections. Raises InvalidSkyPilotConfigError."""
        found = self._over.get(name, self._current().get(name))
        return found if isinstance(found, str) else None

    def whole(self) -> Mapping[str, object]:
        """All of it as it is now. Raises InvalidSkyPilotConfigError with file, line and column."""
        return {**self._current(), **self._over}

    def allowed_clouds(self) -> Sequence[str] | None:
        """Places that may be used, None for all. Raises InvalidSkyPilotConfigError."""
        found = self._over.get("allowed_clouds", self._current().get("allowed_clouds"))
        return [str(each) for each in found] if isinstance(found, list | tuple) else None

    def _current(self) -> Mapping[str, object]:
        named = os.environ.get("SKYPILOT_GLOBAL_CONFIG")
        # Asked some times for each job: text and one call of the system, a tenth of what a path takes.
        path = os.path.expanduser(named or "~/.sky/config.yaml")  # noqa: PTH111
        try:
            seen = (path, os.stat(path).st_mtime_ns)  # noqa: PTH116
        except OSError:
            seen = (path, 0)
        if seen != self._seen:
            # Reading it takes YAML and the schema, which a server without such a file need not wait for.
            from sky.wire.config import load_config  # noqa: PLC0415

            env = {"SKYPILOT_GLOBAL_CONFIG": named} if named else {}
            # The project's own layer belongs to whoever stands in its directory: the client sends it along. Hence a
            # working directory in which there is none.
            self._values = load_config(env=env, cwd=_NOWHERE, home=Path.home()).to_dict()
            self._seen = seen
        return self._values


def read_user_yaml(text: bytes, source: str, kind: str) -> tuple[object, Locator]:
    """The first document of a text, and where its parts stand. Raises InvalidSkyPilotConfigError."""
    # As above: few servers ever read such a file.
    from sky.wire.yaml_reader import read_documents  # noqa: PLC0415

    documents = read_documents(text, source, kind=kind)
    return (documents[0].data, documents[0].locate) if documents else (None, lambda path: source)
