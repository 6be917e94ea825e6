"""What can go wrong on the way to a node and its agent."""

from __future__ import annotations


class RemoteError(Exception):
    """Root of this room's errors."""


class AgentUnreachable(RemoteError):
    """No agent answered in time; whether the request was carried out is unknown."""


class AgentError(RemoteError):
    """The agent refused: `type` names the reason for programs, `message` says it for people."""

    def __init__(self, type: str, message: str) -> None:
        super().__init__(f"{type}: {message}")
        self.type = type
        self.message = message


class AgentNotStarted(RemoteError):
    """The agent could not be put onto the node or did not come up; the text carries what it said last."""


class SyncFailed(RemoteError):
    """Files could not be brought onto the node; the text names the file and the reason."""
