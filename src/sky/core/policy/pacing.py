"""How a managed job with a deadline asks its policy: what it declares, what is believed of spot, what is saved.

Between the rules of `core.lifecycle.managed_jobs`, which keep a `Pace` in the job's row, and the policies of
`core.policy.deadlines`, which `sky simulate` plays as they are. Pure: the same row, prices and time give the same
decision. Times are seconds since the epoch, durations seconds, prices USD per hour for all nodes.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sky.core.policy import catalogue, deadlines
from sky.core.policy.deadlines import LATE, Memory, Observation, Offer, Zone, back, slack
from sky.kit.frozen import replace

#: The strategy whose jobs ask.
STRATEGY = "DEADLINE"
#: What a restart takes where the task does not say.
RESTART_S = 720.0
#: The shortest and the longest time until the policy is asked again.
_SOONEST_S, _LATEST_S = 5.0, 3600.0
#: A zone that refused or took a machine away is left alone for a restart's time within these bounds, then is tried
#: again; twice as long with each refusal in a row, so many times.
_REST_S, _DOUBLINGS = (30.0, 1800.0), 4
#: USD and seconds for each GB of checkpoint that goes to another region.
_USD_PER_GB, _SECONDS_PER_GB = 0.02, 16.0
#: A job is never taken to be nearer to its end than this before it has ended.
_NEARLY = 0.99
NO_SPOT = "nobody sells spot for it"
#: The form of what is kept in the row; another is begun anew.
VERSION = 1


@dataclass(frozen=True, slots=True)
class Terms:
    """What a task declares: when it has to end, its work, what a restart takes, the policy, GB of its checkpoint."""

    began: float
    deadline: float
    work: float
    restart: float = RESTART_S
    policy: str = catalogue.DEFAULT
    size_gb: float = 0.0
    checkpoints: bool = False
    #: Seconds that the task is told before it is moved.
    notice: float = 0.0

    @property
    def grain(self) -> float:
        """The longest time in which a loss, or a moment to act, may pass unseen."""
        return min(60.0, max(_SOONEST_S, self.restart / 4))

    @property
    def clearing(self) -> float:
        """What it takes until nothing is left of a cluster: the next is ordered only then."""
        return min(60.0, self.restart / 2)


class Rate(NamedTuple):
    """What a zone asks for, in one market. `key` names zone and region as `cloud/region/zone`, `cloud/region`."""

    zone: str
    region: str
    spot: bool
    price: float


class Belief(NamedTuple):
    """What this job met with in a zone: refusals and losses in a row, and until when it is left alone."""

    zone: str
    failures: int
    until: float


@dataclass(frozen=True, slots=True)
class Pace:
    """What a job carries from one decision to the next. `asked` is what it was given last, `''` for nothing.

    `saved` are seconds of work that no loss takes away, `base` those with which the attempt under way began, `kept_at`
    when the newest checkpoint was written. `done` is what would be done if nothing more is lost. `probe` is the id of a
    cluster in `probe_zone` that was asked for while the job runs elsewhere, since `probe_at`; `home` one
    that was there already when the attempt `adopt` began.
    """

    task: int = 0
    memory: Memory = deadlines.EMPTY
    beliefs: tuple[Belief, ...] = ()
    asked: str = ""
    spot: bool = False
    region: str = ""
    price: float = 0.0
    asked_at: float = 0.0
    saved: float = 0.0
    base: float = 0.0
    done: float = 0.0
    kept_at: float = 0.0
    probe_at: float = 0.0
    reason: str = ""
    probe: str = ""
    probe_zone: str = ""
    home: str = ""
    adopt: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What is seen of the attempt under way; None where nothing is. `progress` is a share of 1."""

    running_since: float | None = None
    progress: float | None = None
    progress_at: float | None = None
    checkpoint_at: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to run from now on (None: wait), why, whether that is another machine than now, when to ask again."""

    offer: Offer | None
    reason: str
    moves: bool
    review: float
    left: float


# --- what a task says ------------------------------------------------------------------------------------------------


def problem(config: Mapping[str, object]) -> str | None:
    """What is wrong with a `job_recovery` of this strategy; None where nothing is."""
    deadline, work = _seconds(config, "deadline"), _seconds(config, "work")
    if deadline is None or work is None:
        missing = "deadline" if deadline is None else "work"
        return f"job_recovery.{missing}: not given; strategy DEADLINE takes both deadline (as 20h) and work (as 12h)"
    name = str(config.get("policy") or catalogue.DEFAULT)
    if name not in catalogue.POLICIES:
        return f"job_recovery.policy: found {name[:80]!r}; allowed: {', '.join(catalogue.POLICIES)}"
    if config.get("on_max_cost") == "spot":
        return "job_recovery.on_max_cost: found 'spot'; allowed with a deadline: stop (the policy chooses the market)"
    least = work + (_seconds(config, "restart_overhead") or RESTART_S)
    if deadline < least:
        return (
            f"job_recovery.deadline: found {_hours(deadline)}; {_hours(work)} of work and a start "
            f"({_hours(least - work)}, restart_overhead) take {_hours(least)}, even on demand. Give it more time, or "
            "declare less work"
        )
    return None


def terms(config: Mapping[str, object], task: Mapping[str, object], began: float) -> Terms:
    """The terms of a `job_recovery` without problems, and its task's configuration; its time began at `began`."""
    checkpoint, farewell = task.get("checkpoint"), task.get("on_preemption")
    size = checkpoint.get("max_size") if isinstance(checkpoint, Mapping) else None
    return Terms(
        began,
        began + (_seconds(config, "deadline") or math.inf),
        _seconds(config, "work") or 1.0,
        _seconds(config, "restart_overhead") or RESTART_S,
        str(config.get("policy") or catalogue.DEFAULT),
        _leading(size),
        checkpoint is not None,
        _leading(farewell.get("grace"), 30.0) if isinstance(farewell, Mapping) else 0.0,
    )


def _seconds(config: Mapping[str, object], key: str) -> float | None:
    found = config.get(key)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) and found > 0 else None


def _leading(value: object, otherwise: float = 0.0) -> float:
    """The number that a canonical size (`40GB`) or duration (`90s`) begins with."""
    try:
        return float(str(value).rstrip("GBs")) if value is not None else otherwise
    except ValueError:
        return otherwise


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.3g} h" if seconds >= 3600 else f"{seconds / 60:.3g} min"


# --- what is kept ----------------------------------------------------------------------------------------------------


def load(kept: Mapping[str, object], task: int) -> Pace:
    """What the row has of this task; a fresh one where it has none, or in another form."""
    if kept.get("version") != VERSION or kept.get("task") != task:
        return Pace(task)
    at, zones = _listed(kept.get("memory"), 2)
    remembered = tuple(Zone(str(name), bool(up), _number(seen), _number(lost)) for name, up, seen, lost in
                       (_listed(each, 4) for each in _listed(zones)))  # fmt: skip
    beliefs = tuple(Belief(str(zone), int(_number(failures)), _number(until)) for zone, failures, until in
                    (_listed(each, 3) for each in _listed(kept.get("beliefs"))))  # fmt: skip
    texts = {name: str(kept.get(name) or "") for name in _TEXTS}
    numbers = {name: _number(kept.get(name)) for name in _NUMBERS}
    found: dict[str, Any] = {
        **texts,
        **numbers,
        "spot": bool(kept.get("spot")),
        "adopt": int(_number(kept.get("adopt"))),
    }
    return Pace(task, Memory(_number(at), remembered), beliefs, **found)


_TEXTS = ("asked", "region", "reason", "probe", "probe_zone", "home")
_NUMBERS = ("price", "asked_at", "saved", "base", "done", "kept_at", "probe_at")


def dump(pace: Pace) -> dict[str, object]:
    """A pace as JSON that `load` reads back."""
    return {
        "version": VERSION, "task": pace.task, "spot": pace.spot, "adopt": pace.adopt,
        "memory": [pace.memory.at, [list(each) for each in pace.memory.zones]],
        "beliefs": [list(each) for each in pace.beliefs],
        **{name: getattr(pace, name) for name in (*_TEXTS, *_NUMBERS)},
    }  # fmt: skip


def _listed(value: object, count: int | None = None) -> Sequence[object]:
    found = list(value) if isinstance(value, list | tuple) else []
    return found if count is None or len(found) == count else [None] * count


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


# --- what happened ---------------------------------------------------------------------------------------------------


def failed(pace: Pace, terms: Terms, now: float) -> Pace:
    """What it was given was refused, or was taken away: a zone's spot is left alone for a while."""
    if not pace.asked:
        return pace
    ended = left(replace(pace, probe="", home="", adopt=0))
    return replace(ended, beliefs=_failed(pace, terms, pace.asked, now)) if pace.spot else ended


def _failed(pace: Pace, terms: Terms, zone: str, now: float) -> tuple[Belief, ...]:
    before = next((each.failures for each in pace.beliefs if each.zone == zone), 0)
    rest = _rest(terms) * 2 ** min(before, _DOUBLINGS)
    return (*(each for each in pace.beliefs if each.zone != zone), Belief(zone, before + 1, now + rest))


def left(pace: Pace) -> Pace:
    """What it ran on was given up for something better: nobody's fault."""
    return replace(pace, asked="", base=pace.saved, done=pace.saved)


def probing(pace: Pace, offer: Offer, cluster: str, now: float) -> Pace:
    """A zone was asked for spot while the job runs on elsewhere: nothing that works is left for what may refuse."""
    return replace(pace, probe=cluster, probe_zone=offer.zone, probe_at=now)


def unprobed(pace: Pace, terms: Terms, now: float, *, refused: bool) -> Pace:
    """What was asked for is not wanted any more, or did not come."""
    beliefs = _failed(pace, terms, pace.probe_zone, now) if refused else pace.beliefs
    return replace(pace, probe="", beliefs=beliefs)


def overdue(pace: Pace, terms: Terms, now: float) -> bool:
    """Whether what was asked for took longer than anybody should wait."""
    return now > pace.probe_at + 2 * terms.restart


def adopting(pace: Pace, attempt: int) -> Pace:
    """What was asked for is there: this attempt runs on it."""
    return replace(pace, probe="", home=pace.probe, adopt=attempt)


def adopted(kept: Mapping[str, object], attempt: int) -> str | None:
    """The cluster that an attempt runs on because it was there already."""
    return str(kept["home"]) if kept.get("home") and kept.get("adopt") == attempt else None


def beside(kept: Mapping[str, object], attempt: int) -> frozenset[str]:
    """The clusters that a job has beside that of its attempt: what was asked for, and what is to be its next."""
    following = kept.get("home") if kept.get("adopt") == attempt + 1 else None
    return frozenset(str(each) for each in (kept.get("probe"), following) if each)


def awaited(kept: Mapping[str, object], task: int, attempt: int) -> frozenset[str]:
    """Those of them that the task whose turn it is needs: what another asked for went with that."""
    return beside(kept, attempt) if kept.get("task") == task else frozenset()


def works(pace: Pace) -> Pace:
    """It runs: what the zone refused before counts no more."""
    return replace(pace, beliefs=tuple(each for each in pace.beliefs if each.zone != pace.asked or not pace.spot))


def noted(pace: Pace, terms: Terms, facts: Facts, now: float) -> Pace:
    """What is done and saved, by what is seen.

    The job's own word (`sky progress`, a pattern) is what is done; else the time that it has run. Where it declares a
    `checkpoint`, what was done when the newest complete one was written is saved; where it does not, its own word is
    taken for what is saved, and without one nothing is.
    """
    most = _NEARLY * terms.work
    if facts.running_since is None:
        return pace
    said = facts.progress
    done = pace.base + max(0.0, now - facts.running_since) if said is None else said * terms.work
    done, saved = min(done, most), pace.saved
    if said is not None and not terms.checkpoints:
        saved = done
    kept_at = pace.kept_at
    if (
        terms.checkpoints
        and facts.checkpoint_at is not None
        and facts.checkpoint_at > max(kept_at, facts.running_since)
    ):
        kept_at = facts.checkpoint_at
        told = facts.progress_at if said is not None and facts.progress_at is not None else now
        saved = max(0.0, done - max(0.0, told - kept_at))
    # Whoever is begun anew and says that less is done than was believed knows better.
    return replace(pace, done=done, saved=min(saved, done), kept_at=kept_at)


# --- what is believed, and decided -----------------------------------------------------------------------------------


def has_spot(pace: Pace, terms: Terms, zone: str, now: float, refused_at: float | None) -> bool:
    """Whether a zone is believed to have spot: unless it refused this job, or any job (`refused_at`), not long ago.

    It is worth another try after its rest. What was never tried is believed to have some.
    """
    own = next((each.until for each in pace.beliefs if each.zone == zone), -math.inf)
    anybodys = -math.inf if refused_at is None else refused_at + _rest(terms)
    return now >= max(own, anybodys)


def _rest(terms: Terms) -> float:
    least, most = _REST_S
    return min(most, max(least, terms.restart))


def observation(
    terms: Terms, pace: Pace, rates: Iterable[Rate], now: float, refused: Callable[[str], float | None], *, works: bool
) -> Observation:
    """What the policy is shown. `refused` tells when a zone last refused spot to anybody; `works`: what was asked for
    has come, and the job runs on it."""
    unsaved = max(0.0, pace.done - pace.saved)
    running = warming = None
    leaving = terms.notice + terms.clearing if pace.asked else 0.0
    spot, fixed = [], []
    for rate in sorted(rates, key=lambda each: (each.price, each.zone)):
        here = bool(pace.asked) and rate.zone == pace.asked and rate.spot == pace.spot
        moved = bool(pace.region) and rate.region != pace.region
        start = terms.restart + leaving + (terms.size_gb * _SECONDS_PER_GB if moved else 0.0) + unsaved
        offer = Offer(rate.zone, rate.region, rate.spot, rate.price, start,
                      terms.size_gb * _USD_PER_GB if moved else 0.0)  # fmt: skip
        if here:
            running = offer
        if not rate.spot:
            fixed.append(offer)
        elif here or has_spot(pace, terms, rate.zone, now, refused(rate.zone)):
            spot.append(offer)
    if pace.asked and running is None:
        # Nobody offers it any more, and it is there all the same.
        running = Offer(pace.asked, pace.region, pace.spot, pace.price, terms.restart + leaving + unsaved)
        (spot if pace.spot else fixed).append(running)
    if running is not None:
        warming = 0.0 if works else max(terms.grain, pace.asked_at + terms.restart - now)
    return Observation(
        now, terms.began, terms.deadline, terms.work, terms.work - pace.done, terms.restart, tuple(spot), tuple(fixed),
        running, warming or 0.0, terms.grain, terms.grain + terms.clearing + terms.notice + unsaved, pace.region,
    )  # fmt: skip


def decide(terms: Terms, pace: Pace, seen: Observation, *, sold: bool = True) -> tuple[Verdict, Pace]:
    """Ask the policy. The pace that comes back holds what it is given now.

    sold: whether anybody sells spot for it at all; where nobody does, there is nothing to wait for.
    """
    policy, _ = catalogue.POLICIES[terms.policy if sold else "on-demand"]
    decision, memory = policy(seen, pace.memory)
    offer, reason = decision.offer, decision.reason if sold or decision.reason != deadlines.ALWAYS else NO_SPOT
    if offer is None and seen.running is None and reason == LATE:
        # There is no on-demand to fall back on.
        offer = seen.spot[0] if seen.spot else None
    moves = not deadlines.same(offer, seen.running)
    review = _review(pace, seen, offer, decision.review)
    after = replace(pace, memory=memory, reason=reason)
    if offer is not None and seen.running is None:
        after = replace(
            after, asked=offer.zone, spot=offer.spot, region=offer.region, price=offer.price, asked_at=seen.now
        )
    return Verdict(offer, reason, moves, review, seen.left), after


def _review(pace: Pace, seen: Observation, offer: Offer | None, wanted: float) -> float:
    """When to ask again: as the policy wants it, when the net may bite, or when a zone may have spot again."""
    rests = [each.until for each in pace.beliefs if each.until > seen.now]
    if offer is None:
        return max(seen.now + 1.0, min(wanted, *rests, seen.now + _LATEST_S))
    soonest = seen.now + seen.grain
    if offer.spot:
        # Work on spot takes no slack, and what is not saved grows no faster than time goes.
        room = slack(seen) - seen.lag - back(seen, offer.region)
        return max(soonest, min(wanted, *rests, seen.now + room, seen.now + _LATEST_S))
    return max(soonest, min(wanted, *rests, seen.now + max(seen.overhead, seen.grain)))


def told(verdict: Verdict, terms: Terms, spent: float, now: float) -> str:
    """A decision in words, with its reason, what it has cost so far, and how much time and work are left."""
    offer = verdict.offer
    what = "waiting" if offer is None else f"{'spot' if offer.spot else 'on demand'} in {offer.zone}"
    time = terms.deadline - now
    until = f"{_hours(time)} to the deadline" if time >= 0 else f"{_hours(-time)} after the deadline"
    return f"{what}: {verdict.reason}; ${spent:,.2f} so far, {_hours(verdict.left)} of work left, {until}"
