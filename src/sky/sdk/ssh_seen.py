"""Whether the SSH configuration that is kept of clusters must follow what became of them.

Called after each `sky status`, and by `sdk.requests`. What writes files is `sdk.ssh_files`, loaded only when something
changed: a `sky status` is a matter of milliseconds. `ask` below asks the server for all nodes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sky.sdk.transport import current_endpoint

#: Where the files are; `.seen` in it says what they stand for.
ROOT = "~/.sky/generated"

Ask = Callable[[], list[dict[str, Any]]]


def saw(records: Iterable[Mapping[str, Any]], ask: Ask) -> None:
    """All clusters were listed: bring the files up to date if anything about these clusters changed."""
    state = current_endpoint().state
    if state is None:
        return
    lines = sorted(_line(each) for each in records if each.get("cloud") not in (None, "local"))
    seen = "\n".join([str(state), *lines]) if lines else ""
    root = os.path.expanduser(ROOT)  # noqa: PTH111 - on the path of `status`
    try:
        with open(f"{root}/.seen", encoding="utf-8") as file:  # noqa: PTH123 - as above
            known = file.read()
    except OSError:
        known = ""
    if seen != known:
        from sky.sdk import ssh_files  # noqa: PLC0415 - only when something changed

        ssh_files.refresh(root, state, ask, seen)


def _line(record: Mapping[str, Any]) -> str:
    handle = record.get("handle") or {}
    told = (record.get("name"), record.get("cluster_hash"), record.get("status"), record.get("status_updated_at"))
    return f"{told} {handle.get('stable_internal_external_ips')}"


def changed(name: str, cluster: str | None, cloud: str | None, ask: Ask) -> None:
    """A request made or ended a cluster: bring the files up to date if they are to have it, or have it."""
    state = current_endpoint().state
    if not cluster or state is None:
        return
    root = os.path.expanduser(ROOT)  # noqa: PTH111 - after every request
    gone = name in ("stop", "down")
    if cloud in (None, "local") and not (gone and os.path.lexists(f"{root}/ssh/{cluster}")):
        return
    from sky.sdk import ssh_files  # noqa: PLC0415 - as above

    ssh_files.refresh(root, state, ask)
