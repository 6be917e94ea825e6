"""Makes the world of price lists and its fixtures known to the tests of this room."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from price_world import home, unused_port, web, world

__all__ = ["home", "unused_port", "web", "world"]
