"""The nodes of clusters and the way onto each. Called by the command line for `sky ssh` and `sky port-forward`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sky.sdk.ids import RequestId
from sky.sdk.requests import read


def nodes(cluster_names: Sequence[str] | None = None) -> RequestId[list[dict[str, Any]]]:
    """The way onto the nodes of clusters that are up (None: of all), by the server's machine: see `sky.wire.nodes`."""
    return read("nodes", {"cluster_names": None if cluster_names is None else list(cluster_names)})
