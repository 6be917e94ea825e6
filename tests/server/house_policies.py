"""Policies as administrators write them, for the tests; loaded by name, by the client or by the server's worker."""

import os
import sys

import sky


class Spot(sky.AdminPolicy):
    """Everything runs on spot machines, is labelled with its user, and costs no more than it may."""

    @classmethod
    def validate_and_mutate(cls, user_request: sky.UserRequest) -> sky.MutatedUserRequest:
        print("a policy may print")
        task, config = user_request.task, user_request.skypilot_config
        if task.num_nodes > 2:
            raise ValueError(f"{task.num_nodes} nodes are too many")
        if user_request.request_options["down"] and user_request.request_options.cluster_name == "kept":
            raise RuntimeError("this one stays")
        task.set_resources_override({"use_spot": True})
        side = "client" if user_request.at_client_side else user_request.user.name
        task.update_envs({f"SEEN_BY_{'CLIENT' if user_request.at_client_side else 'SERVER'}": side})
        config.set_nested(("provision", "hedge"), 3)
        assert config.get_nested(("db",)) is None
        assert user_request.client_version
        return sky.MutatedUserRequest(task=task, skypilot_config=config)


class Names(sky.AdminPolicy):
    """Tells in the task's name what the request is for."""

    @classmethod
    def validate_and_mutate(cls, user_request: sky.UserRequest) -> sky.MutatedUserRequest:
        user_request.task.name = user_request.request_name
        return sky.MutatedUserRequest(user_request.task, user_request.skypilot_config)


class Dies(sky.AdminPolicy):
    """Takes its process with it."""

    @classmethod
    def validate_and_mutate(cls, user_request: sky.UserRequest) -> sky.MutatedUserRequest:
        if user_request.task.name == "die":
            os._exit(3)
        return sky.MutatedUserRequest(user_request.task, user_request.skypilot_config)


class Sleeps(sky.AdminPolicy):
    """Never answers."""

    @classmethod
    def validate_and_mutate(cls, user_request: sky.UserRequest) -> sky.MutatedUserRequest:
        sys.stdin.read()
        raise AssertionError("its server went away")


class NoPolicy:
    """Not one."""
