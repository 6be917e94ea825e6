"""The agent: lives on each node of a cluster, queues and runs its jobs, keeps their logs, and stops the machine when
idle.

Shipped as one zip of standard-library Python (3.8 or newer) and started by `sky.remote.bootstrap`; inside the zip the
package stands alone, so every import in this room is relative. `sky.remote` also imports `frames` and `connection`
from here: one implementation of the wire for both of its ends.
"""

from __future__ import annotations

PROTOCOL = 1
