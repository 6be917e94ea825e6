"""What can happen to a managed job, and what can be ordered for it: the words of its table (`managed_jobs`).

`engine.managed_jobs` sends the events and carries the orders out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sky.core.lifecycle import group_events
from sky.core.model.clusters import Phase
from sky.core.model.jobs import NOTHING_SEEN, FailureCause
from sky.core.model.jobs import Seen as Noted
from sky.core.model.managed_jobs import Where
from sky.core.model.statuses import JobStatus

# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Due:
    """It is time to look."""


@dataclass(frozen=True, slots=True)
class Changed:
    """The job's cluster, or its job there, has moved on."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """It is the job's turn."""


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Somebody wants the job to end. Graceful: its processes are told first, and have `timeout` seconds.

    `failed` says why it may not go on: it then counts as failed.
    """

    user: str = ""
    graceful: bool = False
    timeout: float | None = None
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Launched:
    """The attempt's cluster is on record; `text` says what was chosen and why.

    With a deadline: what it carries along from here, and when its policy is asked again.
    """

    cluster_id: str
    cluster_name: str
    text: str = ""
    pace: Mapping[str, object] = field(default_factory=dict)
    look_at: float | None = None


@dataclass(frozen=True, slots=True)
class NotPlaced:
    """No place was found. Hopeless: there is none that could ever have it. Wrong: what is asked for cannot be."""

    reason: str
    hopeless: bool = False
    wrong: bool = False


@dataclass(frozen=True, slots=True)
class Postponed:
    """The strategy wants to wait before it looks for a place."""

    seconds: float
    reason: str
    pace: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Weighed:
    """The policy of a job with a deadline was asked: `leave` says why it leaves what it runs on, empty where it stays.

    Its processes are told `notice` seconds before.
    """

    pace: Mapping[str, object]
    look_at: float
    text: str
    leave: str = ""
    notice: float = 0.0


@dataclass(frozen=True, slots=True)
class NotSeen:
    """Looking, or what else was ordered, failed in an unforeseen way."""

    reason: str


@dataclass(frozen=True, slots=True)
class Seen:
    """The rows of the job's cluster and of its job there, as they are.

    `phase` None: the cluster is not on record. `missing`: machines of it that do not exist any more or do not run, by
    the word of their provider; `lost` are the ranks of those and of others that are out of reach, of `num_nodes`.
    `fixed`: why its place cannot replace single nodes, empty where it can; `repairs`: how often some were. `job` None:
    no job on record; `version` and `number` are the job's, `noted` is what its node sees of it. `memory_gb` (GiB) is
    what each node lends.
    """

    phase: Phase | None
    missing: int = 0
    lost: tuple[int, ...] = ()
    num_nodes: int = 1
    fixed: str = ""
    repairs: int = 0
    ever_up: bool = False
    unfit: bool = False
    cluster_reason: str | None = None
    where: Where | None = None
    job: JobStatus | None = None
    version: int = -1
    number: int | None = None
    start_at: float | None = None
    end_at: float | None = None
    exit_codes: tuple[int, ...] = ()
    reason: str | None = None
    cause: FailureCause | None = None
    noted: Noted = NOTHING_SEEN
    memory_gb: float | None = None

    @property
    def gone(self) -> bool:
        """Whether nothing of the cluster is left."""
        return self.phase in (None, Phase.TERMINATED)


# --- orders ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Launch:
    """Find a place for the attempt, and put its cluster on record."""


@dataclass(frozen=True, slots=True)
class Look:
    """Read the rows of its cluster and its job there."""


@dataclass(frozen=True, slots=True)
class Weigh:
    """Ask the policy of a job with a deadline whether it stays where it is."""


@dataclass(frozen=True, slots=True)
class Warn:
    """Tell the nodes that they will be taken away in so many seconds, and look."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class OpenJob:
    """Put the attempt's job on record, and look."""


@dataclass(frozen=True, slots=True)
class Repair:
    """Have what is left of the attempt's job ended on record, then the nodes replaced that are gone, and look."""


@dataclass(frozen=True, slots=True)
class CancelJob:
    """Tell the attempt's job to end, and look."""


@dataclass(frozen=True, slots=True)
class Close:
    """Keep what the log has, have the cluster ended, and look."""


@dataclass(frozen=True, slots=True)
class Release:
    """Keep what the log has, and leave the cluster to its user: for `seconds` of idleness, or until it is ended."""

    seconds: float | None = None


EVENTS: tuple[type, ...] = (
    Due, Changed, Admitted, CancelAsked, Launched, NotPlaced, Postponed, Weighed, NotSeen, Seen,
    *group_events.EVENTS,
)  # fmt: skip
ORDERS: tuple[type, ...] = (
    Launch, Look, Weigh, Warn, OpenJob, Repair, CancelJob, Close, Release, *group_events.ORDERS,
)  # fmt: skip
