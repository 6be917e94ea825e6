"""The machine behind every lifecycle table: rules by (status, event), nothing implied, nothing silent.

Events are facts in the past tense, orders are imperatives. A rule is a plain function from entity, event and time to
a `Step`. Whoever drives an entity (the engine's loop, a test) calls `Table.step` and carries out the orders.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

E = TypeVar("E")

#: A rule: (entity, event, now in seconds) to the next entity and its orders.
Rule = Callable[[Any, Any, float], "Step[Any]"]


@dataclass(frozen=True, slots=True)
class Step(Generic[E]):
    """The outcome of a rule.

    `orders` of None leaves orders already given standing; a tuple (even an empty one) replaces them, which calls off
    what is under way.
    """

    entity: E
    orders: tuple[object, ...] | None = None
    text: str = ""


class UnexpectedEvent(Exception):
    """An event for which the table has no rule in this status."""


class BrokenRule(Exception):
    """A rule led to a status that it did not declare."""


class Table(Generic[E]):
    """Rules of one noun. `status_of` reads the status that keys the table from an entity."""

    def __init__(self, noun: str, statuses: type[Enum], events: Iterable[type], status_of: Callable[[E], Enum]) -> None:
        self.noun = noun
        self.statuses = tuple(statuses)
        self.events = tuple(events)
        self._status_of = status_of
        self._rules: dict[tuple[Enum, type], tuple[Rule, frozenset[Enum]]] = {}
        self._ignored: dict[tuple[Enum, type], str] = {}

    def on(self, status: Enum | Iterable[Enum], event: type, to: Iterable[Enum]) -> Callable[[Rule], Rule]:
        """Declare a rule for `event` in one or several statuses, and where it may lead; nowhere named: it stays."""
        named = frozenset(to)

        def declare(rule: Rule) -> Rule:
            for each in _several(status):
                self._add(each, event)
                self._rules[each, event] = (rule, named or frozenset((each,)))
            return rule

        return declare

    def ignore(self, status: Enum | Iterable[Enum], event: type, because: str) -> None:
        """State that `event` means nothing in these statuses, and why."""
        for each in _several(status):
            self._add(each, event)
            self._ignored[each, event] = because

    def step(self, entity: E, event: object, now: float) -> Step[E]:
        """Apply the rule for `event`; an ignored event returns the entity as it is.

        Raises UnexpectedEvent where the table is silent, BrokenRule where a rule lies about where it leads.
        """
        status = self._status_of(entity)
        key = (status, type(event))
        if key in self._ignored:
            return Step(entity)
        if key not in self._rules:
            raise UnexpectedEvent(f"{self.noun}: no rule for {type(event).__name__} while {status.value}")
        rule, allowed = self._rules[key]
        step = rule(entity, event, now)
        after = self._status_of(step.entity)
        if after not in allowed:
            raise BrokenRule(f"{self.noun}: {type(event).__name__} while {status.value} led to {after.value}")
        return step

    def gaps(self) -> list[tuple[str, str]]:
        """(status, event) pairs that are neither ruled nor ignored."""
        return [
            (status.value, event.__name__)
            for status in self.statuses
            for event in self.events
            if (status, event) not in self._rules and (status, event) not in self._ignored
        ]

    def arrows(self) -> list[tuple[str, str, str]]:
        """(from, event, to) triples, sorted, for the diagram in the documentation."""
        return sorted(
            (status.value, event.__name__, after.value)
            for (status, event), (_, allowed) in self._rules.items()
            for after in allowed
        )

    def ignored(self) -> Mapping[tuple[str, str], str]:
        """(status, event) to the reason why it is ignored."""
        return {(status.value, event.__name__): why for (status, event), why in self._ignored.items()}

    def _add(self, status: Enum, event: type) -> None:
        if event not in self.events or status not in self.statuses:
            raise ValueError(f"{self.noun}: {status} × {event.__name__} is not of this table")
        if (status, event) in self._rules or (status, event) in self._ignored:
            raise ValueError(f"{self.noun}: {status} × {event.__name__} is declared twice")


def _several(status: Enum | Iterable[Enum]) -> tuple[Enum, ...]:
    return (status,) if isinstance(status, Enum) else tuple(status)
