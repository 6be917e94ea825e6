"""An administrator's policy: what it is written against, and how one is asked.

The setting `admin_policy` names it: `module.Class`, or the address of a web service. The client asks the one that its
own configuration names, the server asks its own (through `sdk.policy_worker`), so that users cannot get around it.
"""

from __future__ import annotations

import abc
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sky.core.errors import InvalidSkyPilotConfigError, UserRequestRejectedByPolicy
from sky.core.model.tasks import TaskSpec
from sky.sdk import settings
from sky.sdk.records import Record
from sky.sdk.tasks import Task
from sky.version import API_VERSION, __version__
from sky.wire.config import Config
from sky.wire.policies import Allowed, Asked, ask_service, is_service


class AdminPolicyRequestName(StrEnum):
    """What a request is for."""

    VALIDATE = "validate"
    OPTIMIZE = "optimize"
    CLUSTER_LAUNCH = "cluster.launch"
    CLUSTER_EXEC = "cluster.exec"
    JOBS_LAUNCH = "jobs.launch"
    JOBS_POOL_APPLY = "jobs.pool_apply"


@dataclass(slots=True)
class UserRequest:
    """A request before it is carried out; ``at_client_side`` says on which side the policy sees it.

    ``request_options`` has ``cluster_name``, ``idle_minutes_to_autostop``, ``down`` and ``dryrun``; ``user`` has ``id``
    and ``name``, and is known on the server only.
    """

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


def load(where: str) -> type[AdminPolicy]:
    """The class that `admin_policy` names. Raises InvalidSkyPilotConfigError for one that is not there or is none."""
    module, _, name = where.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, AttributeError) as missing:
        raise InvalidSkyPilotConfigError(
            f"Invalid config YAML: admin_policy: {where!r} cannot be loaded: {missing}. It has to be `module.Class`, "
            "importable where it is asked, or the http(s) address of a service."
        ) from missing
    if not (isinstance(found, type) and issubclass(found, AdminPolicy)):
        raise InvalidSkyPilotConfigError(f"Invalid config YAML: admin_policy: {where!r} is no sky.AdminPolicy.")
    return found


def judge(where: str, asked: Asked) -> Allowed:
    """Ask a policy of either kind. Raises UserRequestRejectedByPolicy for whatever it raises, RestfulPolicyError."""
    if is_service(where):
        return ask_service(where, asked)
    policy = load(where)
    request = UserRequest(
        task=Task.from_spec(TaskSpec.from_config(asked.task)),
        skypilot_config=Config(dict(asked.config)),
        request_name=asked.request_name,
        request_options=Record(asked.options),
        at_client_side=asked.at_client_side,
        user=None if asked.user is None else Record(asked.user),
        client_api_version=asked.client_api_version,
        client_version=asked.client_version,
    )
    try:
        made = policy.validate_and_mutate(request)
        return Allowed(made.task.to_spec().to_config(), made.skypilot_config.to_dict())
    except UserRequestRejectedByPolicy:
        raise
    except Exception as refused:
        why = str(refused) or "no reason was given"
        raise UserRequestRejectedByPolicy(
            f"The admin policy {where} rejects this: {type(refused).__name__}: {why}"
        ) from refused


def at_client(
    name: AdminPolicyRequestName, task: dict[str, Any], layers: dict[str, Any], options: Any = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A task and the layers that travel with it, as the policy of this client's own configuration wants them."""
    where = settings.admin_policy()
    if where is None:
        return task, layers
    asked = Asked(task, layers, name.value, _options(options), True, None, API_VERSION, __version__)
    allowed = judge(where, asked)
    kept = {key: value for key, value in allowed.config.items() if key not in settings.STAYS_HERE}
    return dict(allowed.task), kept


def _options(given: Any) -> dict[str, Any]:
    names = ("cluster_name", "idle_minutes_to_autostop", "down", "dryrun")
    if isinstance(given, Mapping):
        return {name: given.get(name) for name in names}
    return {name: getattr(given, name, None) for name in names}
