"""What is remembered of refusals and successes: how likely a place gives a machine now, said with an interval.

The store keeps the outcomes, planning makes this of them, `rank` weighs placements with it and `explain` answers
from it. Each outcome counts 1 when it happens and half as much after every half-life. Counts are
kept per (cloud, region, zone, type, market); what is known of the wider places around one (its region, its type in
the whole cloud) is a prior worth at most `PRIOR_WEIGHT` outcomes, so a place speaks for itself once it has been tried.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sky.core.model.catalog import Market
from sky.core.model.offers import Offer

#: Seconds after which an outcome counts half, unless told otherwise: capacity comes and goes within hours.
HALF_LIFE_S = 6 * 3600.0
#: What wider places may count for at most, in outcomes: with more, intervals for a place that was never tried itself
#: would be narrower than zones of one region are alike.
PRIOR_WEIGHT = 1.0
#: Below this weight nothing is said.
LEAST_WEIGHT = 0.5
#: Places kept at most; those heard of longest ago are forgotten first.
MOST_KEYS = 5000
#: Two-sided 90 %.
_Z = 1.6449


class Key(NamedTuple):
    """Where something was asked for; None leaves a part open, for the wider places."""

    cloud: str
    region: str | None
    zone: str | None
    instance_type: str | None
    market: Market

    @classmethod
    def of(cls, offer: Offer) -> "Key":
        """Where an offer is."""
        return cls(offer.cloud, offer.region, offer.zone, offer.instance_type, offer.market)

    def wider(self) -> Iterator["Key"]:
        """The places around, narrowest first: the region, the cloud, both for this type; then the region alone."""
        if self.zone is not None:
            yield self._replace(zone=None)
        if self.region is not None:
            yield self._replace(zone=None, region=None)
            if self.instance_type is not None:
                yield self._replace(zone=None, instance_type=None)


class Chance(NamedTuple):
    """A probability with its 90 % interval; `weight` is how many outcomes (decayed) it rests on."""

    mean: float
    low: float
    high: float
    weight: float


@dataclass(frozen=True, slots=True)
class Record:
    """Decayed counts as of `at` (seconds since the epoch), the last refusal and its words."""

    granted: float = 0.0
    refused: float = 0.0
    at: float = 0.0
    refused_at: float | None = None
    why: str = ""

    def at_time(self, now: float, half_life_s: float) -> tuple[float, float]:
        """Granted and refused, decayed until `now`."""
        kept = 0.5 ** (max(0.0, now - self.at) / half_life_s)
        return self.granted * kept, self.refused * kept


@dataclass(frozen=True, slots=True)
class Memory:
    """A value: `remember` returns another one. Every outcome is added to the place and to all places around it."""

    records: Mapping[Key, Record] = field(default_factory=dict)
    half_life_s: float = HALF_LIFE_S

    @classmethod
    def of(cls, outcomes: Iterable[tuple[Key, bool, float, str]], half_life_s: float = HALF_LIFE_S) -> "Memory":
        """What outcomes teach: each is (where, whether granted, when, words); oldest first."""
        records: dict[Key, Record] = {}
        for key, granted, at, why in outcomes:
            _add(records, key, granted, at, why, half_life_s)
        return cls(records, half_life_s)

    def remember(self, key: Key, granted: bool, now: float, why: str = "") -> "Memory":
        """This with one more outcome at `key`."""
        records = dict(self.records)
        _add(records, key, granted, now, why, self.half_life_s)
        return replace(self, records=records)

    def chance(self, key: Key, now: float) -> Chance | None:
        """How likely one try there succeeds now; None where too little is known to say anything.

        A Wilson score interval on the decayed counts, those of the wider places scaled down to the prior's weight.
        """
        if not self.records:
            return None
        yes, no = self._counts(key, now)
        for wider in key.wider():
            if yes + no >= PRIOR_WEIGHT:
                break
            more_yes, more_no = self._counts(wider, now)
            # What the narrower place counted is in the wider count as well.
            more_yes, more_no = max(0.0, more_yes - yes), max(0.0, more_no - no)
            room = PRIOR_WEIGHT - yes - no
            if more_yes + more_no > room:
                scale = room / (more_yes + more_no)
                more_yes, more_no = more_yes * scale, more_no * scale
            yes, no = yes + more_yes, no + more_no
        return None if yes + no < LEAST_WEIGHT else wilson(yes, no)

    def within(self, key: Key, now: float, minutes: float, every_minutes: float = 5.0) -> Chance | None:
        """How likely one of the tries at 0, `every_minutes`, … up to `minutes` succeeds; None as in `chance`.

        Tries of one place are not independent: capacity that is gone stays gone for a while. So tries count as one
        for each twentieth of the half-life, which is on the careful side.
        """
        now_chance = self.chance(key, now)
        if now_chance is None:
            return None
        apart = max(every_minutes, self.half_life_s / 1200)
        tries = 1 + math.floor(minutes / apart)
        mean, low, high = (1 - (1 - part) ** tries for part in now_chance[:3])
        return Chance(mean, low, high, now_chance.weight)

    def last_refusal(self, key: Key) -> tuple[float, str] | None:
        """When this very place refused last, and in what words."""
        found = self.records.get(key)
        return None if found is None or found.refused_at is None else (found.refused_at, found.why)

    def _counts(self, key: Key, now: float) -> tuple[float, float]:
        found = self.records.get(key)
        return found.at_time(now, self.half_life_s) if found else (0.0, 0.0)


def _add(records: dict[Key, Record], key: Key, granted: bool, now: float, why: str, half_life_s: float) -> None:
    for each in (key, *key.wider()):
        # Taken out first: the newest stand last, and the oldest are forgotten.
        old = records.pop(each, Record())
        yes, no = old.at_time(now, half_life_s)
        seen = (old.refused_at, old.why) if granted else (now, why)
        records[each] = Record(yes + granted, no + (not granted), max(now, old.at), *seen)
    while len(records) > MOST_KEYS:
        del records[next(iter(records))]


def wilson(yes: float, no: float) -> Chance:
    """The Wilson score interval (90 %) of a share, with the mean of a Beta(yes + 1/2, no + 1/2).

    Counts may be fractions. It stands in for the quantiles of the Beta, and covers about as well from two or three
    outcomes on.
    """
    count = yes + no
    share = yes / count
    z2 = _Z * _Z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count)) / (1 + z2 / count)
    return Chance((yes + 0.5) / (count + 1), max(0.0, middle - half), min(1.0, middle + half), count)
