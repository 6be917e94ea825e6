"""What a machine is to have besides its type, and how its owner gets in: the parts of an ask that every cloud knows.

The engine makes a `MachineSpec` of a task's resources; providers carry it out. A `Login` is made by `remote.keys`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

#: What every machine gets where a task does not say, in GB.
DEFAULT_DISK_GB = 256


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """A machine's equipment. `disk_size_gb` in GB; tiers in the interface's words, `None` for the place's own choice.

    `image` is a name of the place or a tag of the interface, never a container; `clone_of` is an image made by
    `ClonesDisks`, which wins over it. `ports` are single ports and ranges (`8080`, `9000-9010`) to be reached from
    outside. `labels` are the user's own.
    """

    disk_size_gb: int = DEFAULT_DISK_GB
    disk_tier: str | None = None
    network_tier: str | None = None
    image: str | None = None
    clone_of: str | None = None
    ports: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Login:
    """How this server gets into the machines of one cluster, and knows them again.

    `public_key` is to be let in (one line of `authorized_keys`). `host_private_key` (OpenSSH's PEM form) and
    `host_public_key` are the machines' own key, the same for all of a cluster, where the place lets one be set at
    creation: then the first connection is already to a known host.
    """

    public_key: str
    host_private_key: str = field(repr=False)
    host_public_key: str
