"""What lies at a task's output prefix, in an object store or on this machine: its error, its outputs, our note.

Asked by `connector`. All access to stores is flytekit's, by its own settings.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from flyteidl.core import errors_pb2
from flytekit import FlyteContextManager
from flytekit.core import utils
from flytekit.models.core.errors import ContainerError, ErrorDocument

from flytekitplugins.skypilot import jobs, staging

#: Bytes of a note that are read.
_LONGEST_NOTE = 200


@dataclass(frozen=True)
class TaskError:
    """How a task failed, in its own words; recoverable: it asked for another try."""

    message: str
    recoverable: bool


class Written:
    """What a task has left at its prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def bring_back(self, handle: jobs.Handle, number: int) -> None:
        """Unpack what the log carries, if the prefix is of this machine and the node was another one."""
        if not staging.is_local(self._prefix):
            return
        into = Path(self._prefix.removeprefix("file://"))
        if not any((into / name).exists() for name in ("outputs.pb", "error.pb")):
            staging.unpack(jobs.log_tail(handle, number, lines=0), into)

    def error(self) -> TaskError | None:
        """What the task wrote of its failure."""
        data = _read(f"{self._prefix}/error.pb")
        if data is None:
            return None
        with tempfile.TemporaryDirectory(prefix="flyte-sky-") as folder:
            kept = Path(folder, "error.pb")
            kept.write_bytes(data)
            found = ErrorDocument.from_flyte_idl(utils.load_proto_from_file(errors_pb2.ErrorDocument, str(kept))).error
        return TaskError(_plain(found.message), found.kind == ContainerError.Kind.RECOVERABLE)

    def outputs(self) -> bool:
        """Whether the task has come to its end."""
        return _read(f"{self._prefix}/outputs.pb") is not None


def note(prefix: str, name: str, request_id: str) -> None:
    """Leave word of the launch beside the outputs, for a connector that is asked for the same task again."""
    with tempfile.TemporaryDirectory(prefix="flyte-sky-") as folder:
        kept = Path(folder, "note")
        kept.write_text(request_id, encoding="utf-8")
        FlyteContextManager.current_context().file_access.put_data(str(kept), _note(prefix, name))


def noted(prefix: str, name: str) -> str | None:
    """The launch that another call left word of."""
    data = _read(_note(prefix, name))
    return None if data is None else data[:_LONGEST_NOTE].decode("utf-8", "replace").strip() or None


def _note(prefix: str, name: str) -> str:
    return f"{prefix}/.sky-{name}"


def _read(place: str) -> bytes | None:
    """A small file, or None if it is not there."""
    access = FlyteContextManager.current_context().file_access
    if not access.exists(place):
        return None
    with tempfile.TemporaryDirectory(prefix="flyte-sky-") as folder:
        kept = Path(folder, "file")
        access.get_data(place, str(kept))
        return kept.read_bytes()


def _plain(message: str) -> str:
    """The message without flytekit's frame: the trace comes first, what was raised last."""
    lines = [line.strip() for line in message.partition("Message:")[2].splitlines() if line.strip()]
    return "\n".join(lines) or message.strip()
