"""What can go wrong on the way to a node and its agent: the two kinds that the engine knows, and their finer forms.

Raised in this room and by nobody else; whoever calls it catches `sky.core.errors.AgentUnreachable` and `AgentRefused`.
"""

from __future__ import annotations

from sky.core.errors import AgentRefused, AgentUnreachable

__all__ = [
    "AgentError",
    "AgentNotStarted",
    "AgentRefused",
    "AgentUnreachable",
    "LinkDown",
    "LoginRefused",
    "NoPython",
    "PortTaken",
    "SyncFailed",
]


class AgentError(AgentRefused):
    """The agent refused: `type` names the reason for programs, `message` says it for people."""

    def __init__(self, type: str, message: str) -> None:
        super().__init__(f"{type}: {message}")
        self.type = type
        self.message = message


class AgentNotStarted(AgentUnreachable):
    """The agent could not be put onto the node or did not come up; the text carries what it said last."""


class NoPython(AgentNotStarted):
    """The node has no Python that the agent can run with."""


class PortTaken(AgentNotStarted):
    """Somebody else listens on the port that the agent was to be found on by its peers: another one may be free."""


class LoginRefused(AgentUnreachable):
    """The node answers and does not let us in, or is not the one that we know: no use in trying again."""


class LinkDown(OSError):
    """There is no connection to the node at the moment. An `OSError`, since what meets it tries again as for those."""


class SyncFailed(AgentRefused):
    """Files could not be brought onto the node; the text names the file and the reason."""
