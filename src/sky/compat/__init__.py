"""Module paths of other versions of this interface, as existing programs import them; `sky/__init__.py` asks it."""
