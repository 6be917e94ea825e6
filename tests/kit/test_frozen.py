"""The quick copy is the library's copy."""

import dataclasses
from dataclasses import FrozenInstanceError, dataclass, field

import pytest

from sky.kit.frozen import replace


@dataclass(frozen=True, slots=True)
class Plain:
    name: str
    count: int = 0
    tags: tuple[str, ...] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Longer(Plain):
    more: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    name: str
    count: int = 0

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("below zero")


@dataclass(frozen=True)
class Open:
    name: str
    count: int = 0


def test_a_copy_has_the_changes_and_everything_else() -> None:
    before = Longer("a", 1, ("x",), more="m")
    after = replace(before, count=2, more="n")
    assert after == Longer("a", 2, ("x",), more="n") == dataclasses.replace(before, count=2, more="n")
    assert before == Longer("a", 1, ("x",), more="m")
    assert type(after) is Longer
    assert after.tags is before.tags


def test_a_copy_is_frozen_too() -> None:
    with pytest.raises(FrozenInstanceError):
        replace(Plain("a"), count=2).count = 3  # type: ignore[misc] # that is what is tried


def test_a_field_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="nothing"):
        replace(Plain("a"), nothing=1)  # type: ignore[call-arg] # that is what is tried


def test_what_checks_itself_is_asked() -> None:
    with pytest.raises(ValueError, match="below zero"):
        replace(Checked("a"), count=-1)


def test_one_without_slots_is_copied_as_well() -> None:
    assert replace(Open("a"), count=2) == Open("a", 2)
