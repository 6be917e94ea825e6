"""Makes the small plane and its fixtures known to the tests of this room."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from serving import served, state
from townhall import town

__all__ = ["served", "state", "town"]
