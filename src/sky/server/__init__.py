"""The control plane as a process: who is asking, what they ask, and the answer."""


def __getattr__(name: str) -> object:
    # Other versions of this interface have a module here (`sky.server.common`), which programs reach by attribute.
    from importlib import import_module  # noqa: PLC0415 - only for those programs

    return import_module("sky.compat.finding").beside(__name__)(name)
