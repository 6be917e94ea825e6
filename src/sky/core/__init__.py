"""The pure heart: what things are, which offer to take, what happens next. It touches nothing."""


def __getattr__(name: str) -> object:
    # Other versions of this interface have functions here (`sky.core.status`), which programs import. They are far
    # above this room, which knows nothing of them: their table is looked up by its name, when somebody asks.
    from importlib import import_module  # noqa: PLC0415 - only for those programs

    return import_module("sky.compat.finding").beside(__name__)(name)
