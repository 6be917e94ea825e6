"""The exception tree and its way over the wire; everybody imports failures from here.

``tree`` draws and defines the classes; ``crossing`` turns one into plain data and back.
"""

from sky.core.errors.crossing import error_classes, from_wire, to_wire
from sky.core.errors.tree import *  # noqa: F403 - the whole tree is the public face; tree.py draws it

# Listed by name only where the tree cannot list itself.
__all__ = [*error_classes(), "JobExitCode", "error_classes", "from_wire", "not_supported", "to_wire"]  # noqa: F405, PLE0604
