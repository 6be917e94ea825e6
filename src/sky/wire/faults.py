"""Messages about faults that a user causes. Used by the server's route."""

from typing import Annotated

from msgspec import Meta

from sky.core.model.faults import MOST_SECONDS, FaultKind
from sky.wire.codec import Body

#: Digits that the number of a managed job may have.
_DIGITS = 9


class ChaosBody(Body):
    """Arguments of `/chaos`. `after`: seconds until it happens. `seconds`: of notice (preempt), of a partition.

    Without `node`, one is drawn from `seed`. `job_id` is a job of the cluster. `cluster_name` may be the number
    of a managed job.
    """

    cluster_name: str
    fault: FaultKind
    job_id: int | None = None
    node: Annotated[int, Meta(ge=0)] | None = None
    seed: int = 0
    after: Annotated[float, Meta(ge=0, le=MOST_SECONDS)] = 0.0
    seconds: Annotated[float, Meta(ge=0, le=MOST_SECONDS)] | None = None

    def __post_init__(self) -> None:
        if self.cluster_name.isdecimal() and len(self.cluster_name) > _DIGITS:
            raise ValueError(f"cluster_name: no managed job has a number of {len(self.cluster_name)} digits")
