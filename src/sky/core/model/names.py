"""What things may be called, and the messages for names that they may not have.

Called by the parsers of tasks, jobs and services and by everything that takes a cluster name from a user.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sky.core.errors import InvalidClusterNameError

_TASK_NAME = re.compile(r"[A-Za-z0-9]+(?:[._-]{1,2}[A-Za-z0-9]+)*")
_CLUSTER_NAME = re.compile(r"[A-Za-z](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")
_ENV_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_JOB_GROUP_NAME = re.compile(r"[A-Za-z0-9_-]+")

#: Registry logins, which nodes need together or not at all.
DOCKER_LOGIN_ENVS = ("SKYPILOT_DOCKER_USERNAME", "SKYPILOT_DOCKER_PASSWORD", "SKYPILOT_DOCKER_SERVER")

#: Clouds add a hash of the user and cut the rest; what people type is kept whole up to this length.
_MAX_CLUSTER_NAME = 253


def check_task_name(name: str) -> str:
    """Return the name of a task or raise ``ValueError``."""
    if not _TASK_NAME.fullmatch(name):
        raise ValueError(
            f"found the name '{name[:80]}'; allowed: groups of letters and digits joined by one or two of . _ -"
        )
    return name


def check_job_group_name(name: str) -> str:
    """Return the name of a job group or raise ``ValueError``."""
    if not _JOB_GROUP_NAME.fullmatch(name):
        raise ValueError(f"found the job group name '{name[:80]}'; allowed: letters, digits, '_' and '-'")
    return name


def check_cluster_name(name: str) -> str:
    """Return the name of a cluster or raise ``InvalidClusterNameError``."""
    if not isinstance(name, str) or not _CLUSTER_NAME.fullmatch(name) or len(name) > _MAX_CLUSTER_NAME:
        raise InvalidClusterNameError(
            f"Cluster name '{str(name)[:80]}' is not valid: it must begin with a letter, continue with letters, digits "
            f"or '-', '_', '.', end with a letter or digit, and have at most {_MAX_CLUSTER_NAME} characters."
        )
    return name


def check_env_name(name: str) -> str:
    """Return the name of an environment variable or raise ``ValueError``."""
    if not isinstance(name, str) or not _ENV_NAME.fullmatch(name):
        raise ValueError(
            f"found the variable name '{str(name)[:80]}'; allowed: letters, digits and '_', not beginning with a digit"
        )
    return name


def check_docker_login(envs: Iterable[str], secrets: Iterable[str]) -> None:
    """Raise ``ValueError`` unless the registry login stands whole in envs, whole in secrets, or nowhere."""
    in_envs = [name for name in DOCKER_LOGIN_ENVS if name in set(envs)]
    in_secrets = [name for name in DOCKER_LOGIN_ENVS if name in set(secrets)]
    if in_envs and in_secrets:
        raise ValueError(
            f"found {', '.join(in_envs)} in envs and {', '.join(in_secrets)} in secrets; "
            "allowed: the whole registry login in one of them"
        )
    missing = [name for name in DOCKER_LOGIN_ENVS if name not in in_envs + in_secrets]
    if missing and (in_envs or in_secrets):
        raise ValueError(f"found a registry login without {', '.join(missing)}; allowed: all of its three variables")
