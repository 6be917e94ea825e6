"""What an administrator's policy is written against: the request it sees and the request it returns.

Policies are classes named in the configuration; applying them comes with the administration of servers. The shapes are
here so that a policy written for this interface imports and can be tested on its own.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sky.sdk.tasks import Task
from sky.wire.config import Config


@dataclass(slots=True)
class UserRequest:
    """A request before it is carried out; ``at_client_side`` says on which side the policy sees it."""

    task: Task
    skypilot_config: Config
    request_name: str = ""
    request_options: Mapping[str, Any] = field(default_factory=dict)
    at_client_side: bool = False
    user: Any = None
    client_api_version: int | None = None
    client_version: str | None = None


@dataclass(slots=True)
class MutatedUserRequest:
    """The request as it shall be carried out."""

    task: Task
    skypilot_config: Config


class AdminPolicy(abc.ABC):
    """A policy: changes a request, or refuses it by raising."""

    @classmethod
    @abc.abstractmethod
    def validate_and_mutate(cls, user_request: UserRequest) -> MutatedUserRequest:
        """Return the request as it shall be carried out; raise to refuse it."""
