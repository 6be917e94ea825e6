"""Results for machines."""

import json
from enum import Enum, StrEnum

import pytest
import yaml

from sky.cli.output import emit, plain


class Colour(Enum):
    RED = "red"


class Word(StrEnum):
    UP = "UP"


DATA = [{"name": "a", "status": Word.UP, "colour": Colour.RED, "n": 1.5, "none": None, "list": (1, 2)}, {"name": "é"}]
PLAIN = [{"name": "a", "status": "UP", "colour": "red", "n": 1.5, "none": None, "list": [1, 2]}, {"name": "é"}]


def test_enums_become_words() -> None:
    assert plain(DATA) == PLAIN


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    emit(DATA, "json")
    assert json.loads(capsys.readouterr().out) == PLAIN


def test_jsonl_is_one_line_per_item(capsys: pytest.CaptureFixture[str]) -> None:
    emit(DATA, "jsonl")
    emit({"a": 1}, "jsonl")
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [*PLAIN, {"a": 1}]


def test_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    emit(DATA, "yaml")
    out = capsys.readouterr().out
    assert yaml.safe_load(out) == PLAIN
    assert "é" in out
