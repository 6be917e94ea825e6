"""The machine behind the tables: what is not declared is refused."""

from dataclasses import dataclass, replace
from enum import Enum

import pytest

from sky.core.lifecycle.machine import BrokenRule, Step, Table, UnexpectedEvent


class Light(Enum):
    RED = "RED"
    GREEN = "GREEN"


@dataclass(frozen=True)
class Lamp:
    light: Light = Light.RED


class Pressed:
    pass


class Broken:
    pass


def lamp_table() -> Table[Lamp]:
    table: Table[Lamp] = Table("lamp", Light, (Pressed, Broken), lambda lamp: lamp.light)

    @table.on(Light.RED, Pressed, to={Light.GREEN})
    def go(lamp, event, now):
        return Step(replace(lamp, light=Light.GREEN), ("shine",), "green")

    return table


def test_rule_leads_where_it_says():
    step = lamp_table().step(Lamp(), Pressed(), 0.0)
    assert (step.entity.light, step.orders, step.text) == (Light.GREEN, ("shine",), "green")


def test_event_without_rule_raises_with_the_story():
    with pytest.raises(UnexpectedEvent, match="lamp: no rule for Broken while RED"):
        lamp_table().step(Lamp(), Broken(), 0.0)


def test_ignored_event_changes_nothing():
    table = lamp_table()
    table.ignore(Light.GREEN, Pressed, "it is green already")
    step = table.step(Lamp(Light.GREEN), Pressed(), 0.0)
    assert step.entity == Lamp(Light.GREEN)
    assert step.orders is None


def test_rule_that_leads_elsewhere_is_caught():
    table = lamp_table()

    @table.on(Light.GREEN, Pressed, to={Light.RED})
    def stay(lamp, event, now):
        return Step(lamp)

    with pytest.raises(BrokenRule):
        table.step(Lamp(Light.GREEN), Pressed(), 0.0)


def test_a_rule_that_names_no_status_stays_in_each():
    table: Table[Lamp] = Table("lamp", Light, (Pressed,), lambda lamp: lamp.light)

    @table.on((Light.RED, Light.GREEN), Pressed, to=())
    def blink(lamp, event, now):
        return Step(Lamp(Light.RED))

    assert table.arrows() == [("GREEN", "Pressed", "GREEN"), ("RED", "Pressed", "RED")]
    assert table.step(Lamp(Light.RED), Pressed(), 0.0).entity.light is Light.RED
    with pytest.raises(BrokenRule):
        table.step(Lamp(Light.GREEN), Pressed(), 0.0)


def test_declaring_twice_is_an_error():
    table = lamp_table()
    with pytest.raises(ValueError, match="twice"):
        table.ignore(Light.RED, Pressed, "no")


def test_gaps_are_listed():
    assert lamp_table().gaps() == [("RED", "Broken"), ("GREEN", "Pressed"), ("GREEN", "Broken")]
