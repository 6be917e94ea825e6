"""The shapes in which an administrator's policy is asked, and the way to ask one that is a web service.

The client asks with it for policies of its own configuration, the server for its own. See `sdk.policies` for policies
that are classes.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple

from sky.core.errors import RestfulPolicyError, UserRequestRejectedByPolicy

#: Seconds that a policy may take.
ANSWER_S = 30.0
#: Bytes of an answer.
MOST = 8 * 1024 * 1024
_REDACTED = "<redacted>"


class Asked(NamedTuple):
    """What a policy is asked: a request as its user made it. `user` has `id` and `name`."""

    task: Mapping[str, Any]
    config: Mapping[str, Any]
    request_name: str
    options: Mapping[str, Any]
    at_client_side: bool
    user: Mapping[str, str] | None = None
    client_api_version: int | None = None
    client_version: str | None = None


class Allowed(NamedTuple):
    """What it answers: the request as it shall be carried out."""

    task: Mapping[str, Any]
    config: Mapping[str, Any]


def to_json(asked: Asked) -> dict[str, Any]:
    """A question as plain values."""
    return {
        "task": dict(asked.task),
        "skypilot_config": dict(asked.config),
        "request_name": asked.request_name,
        "request_options": dict(asked.options),
        "at_client_side": asked.at_client_side,
        "user": None if asked.user is None else dict(asked.user),
        "client_api_version": asked.client_api_version,
        "client_version": asked.client_version,
    }


def from_json(told: object, where: str) -> Allowed:
    """An answer from plain values. Raises RestfulPolicyError for what is none."""
    if not isinstance(told, Mapping):
        raise RestfulPolicyError(f"The admin policy {where} answered with no object.")
    task, config = told.get("task"), told.get("skypilot_config")
    if not isinstance(task, Mapping) or not isinstance(config, Mapping | None):
        raise RestfulPolicyError(f"The admin policy {where} answered without `task` and `skypilot_config`.")
    return Allowed(task, config or {})


def is_service(where: str) -> bool:
    """Whether a policy is a web service rather than a class."""
    return where.startswith(("http://", "https://"))


def ask_service(where: str, asked: Asked) -> Allowed:
    """Ask a web service; blocks for up to half a minute. Values of secrets do not travel.

    Raises UserRequestRejectedByPolicy, RestfulPolicyError.
    """
    data = json.dumps({**to_json(asked), "task": _without_secrets(asked.task)}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(where, data, headers, method="POST")  # noqa: S310 - http(s), as `is_service` says
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as response:  # noqa: S310
            body = response.read(MOST + 1)
            if len(body) > MOST:
                raise ValueError(f"more than {MOST} bytes")
            allowed = from_json(json.loads(body), where)
    except urllib.error.HTTPError as refused:
        with refused:
            why = _why(refused.read(64 * 1024))
        if refused.code == 400:
            raise UserRequestRejectedByPolicy(f"The admin policy {where} rejects this: {why}") from None
        raise RestfulPolicyError(f"The admin policy {where} answered with HTTP status {refused.code}: {why}") from None
    except (OSError, ValueError) as failed:
        raise RestfulPolicyError(f"The admin policy {where} could not be asked: {failed}") from None
    return Allowed(_with_secrets(allowed.task, asked.task), allowed.config)


def _why(body: bytes) -> str:
    try:
        told = json.loads(body)
    except ValueError:
        told = body.decode(errors="replace")
    if isinstance(told, Mapping):
        told = next((told[key] for key in ("detail", "message", "error", "reason") if told.get(key)), told)
    return str(told)[:2000]


def _without_secrets(task: Mapping[str, Any]) -> dict[str, Any]:
    secrets = task.get("secrets")
    return {**task, "secrets": dict.fromkeys(secrets, _REDACTED)} if isinstance(secrets, Mapping) else dict(task)


def _with_secrets(task: Mapping[str, Any], original: Mapping[str, Any]) -> dict[str, Any]:
    kept, before = task.get("secrets"), original.get("secrets")
    if not isinstance(kept, Mapping) or not isinstance(before, Mapping):
        return dict(task)
    return {
        **task,
        "secrets": {name: before.get(name) if value == _REDACTED else value for name, value in kept.items()},
    }
