"""The reader of YAML texts: places, limits, and the surprises of YAML 1.1 that are taken away."""

import pytest

from sky.core.errors import InvalidSkyPilotConfigError
from sky.wire.task_yaml import read_file
from sky.wire.yaml_reader import MAX_BYTES, MAX_NODES, expect_mapping, read_documents


def read(text: str | bytes) -> object:
    (document,) = read_documents(text, "file.yaml")
    return document.data


def refusal(text: str | bytes) -> str:
    with pytest.raises(InvalidSkyPilotConfigError) as caught:
        expect_mapping(read_documents(text, "file.yaml")[0], "task")
    return str(caught.value)


def test_plain_values() -> None:
    text = "a: 1\nb: 1.5\nc: true\nd: ~\ne: text\nf: 0x10\ng: '1'\nh: [1, {i: 2}]\nj: -3\nk: 1_000\nl: no\n"
    assert read(text) == {
        "a": 1,
        "b": 1.5,
        "c": True,
        "d": None,
        "e": "text",
        "f": 16,
        "g": "1",
        "h": [1, {"i": 2}],
        "j": -3,
        "k": 1000,
        "l": False,
    }


def test_octal_is_read_both_ways() -> None:
    assert read("a: 010\nb: 0o10\n") == {"a": 8, "b": "0o10"}


def test_base_sixty_and_dates_stay_texts() -> None:
    assert read("a: 12:30\nb: 2024-01-01\nc: 1:30.5\n") == {"a": "12:30", "b": "2024-01-01", "c": "1:30.5"}


def test_keys_are_what_was_written() -> None:
    assert read("NO: 1\n010: 2\n8080: 3\n") == {"NO": 1, "010": 2, "8080": 3}


def test_places_count_from_one_and_fall_back_to_the_parent() -> None:
    (document,) = read_documents("a:\n  b:\n  - c\n  -   d: 1\n", "file.yaml")
    assert document.locate(("a",)) == "file.yaml:1:1"
    assert document.locate(("a", "b", 1, "d")) == "file.yaml:4:7"
    assert document.locate(("a", "b", 1, "d", "nowhere", 7)) == "file.yaml:4:7"
    assert document.locate(("x",)) == "file.yaml:1:1"


def test_merge_keys_lie_under_what_is_written() -> None:
    text = "base: &b {x: 1, y: 2}\nmine:\n  <<: *b\n  y: 3\nboth:\n  <<: [{x: 5}, *b]\n"
    assert read(text)["mine"] == {"x": 1, "y": 3}  # type: ignore[index]
    assert read(text)["both"] == {"x": 5, "y": 2}  # type: ignore[index]


def test_written_text_is_given_where_asked_for() -> None:
    (document,) = read_documents("a: {x: yes, y: 010, z: ~}\nb: yes\n", wants_text=lambda path: path[:1] == ("a",))
    assert document.data == {"a": {"x": "yes", "y": "010", "z": None}, "b": True}


def test_a_byte_order_mark_is_no_key() -> None:
    assert read(b"\xef\xbb\xbfname: x\n") == {"name": "x"}


def test_documents_are_told_apart() -> None:
    assert [one.data for one in read_documents("a: 1\n---\n---\nb: 2\n")] == [{"a": 1}, None, {"b": 2}]
    assert read_documents("") == []
    assert read_documents("# only words\n") == []


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "file.yaml:3:1", "the key 'a' twice, first in line 1"),
        ("r:\n  a: 1\n  a: 1\n", "file.yaml:3:3", "twice"),
        ("a:\n\tb: 1\n", "file.yaml:2:1", "indent with spaces"),
        ("a: b: c\n", "file.yaml:1:5", "check the indentation"),
        ("a: [1, 2\n", "file.yaml:2:1", "brackets"),
        ("a: 'x\n", "file.yaml:2:1", "quote"),
        (
            "a: !!python/object/apply:os.system [x]\n",
            "file.yaml:1:4",
            "found the tag '!!python/object/apply:os.system'",
        ),
        ("a: !secret x\n", "file.yaml:1:4", "found the tag '!secret'"),
        ("? [a]\n: b\n", "file.yaml:1:3", "a sequence as a key"),
        ("~: b\n", "file.yaml:1:1", "an empty key"),
        ("a: *b\n", "file.yaml:1:4", "alias '*b' without its anchor"),
        ("a: &a\n  b: *a\n", "file.yaml:2:6", "inside what it stands for"),
        ("a: !!int x\n", "file.yaml:1:4", "no number"),
        ("a: !!bool x\n", "file.yaml:1:4", "neither true nor false"),
        ("<<: x\n", "file.yaml:1:5", "'<<' with something that is no mapping"),
        ("echo hello\n", "file.yaml:1:1", "put it under 'run:'"),
        ("- a\n", "file.yaml:1:1", "a list of 1; allowed: a mapping"),
        ("7\n", "file.yaml:1:1", "the number 7; allowed: a mapping"),
        ("a: \x07\n", "file.yaml", "no YAML text"),
        (b"a: 1\nb: \xff\n", "file.yaml:2:1", "not UTF-8 in line 2"),
        (b"\x7fELF\0\0", "file.yaml", "a binary file"),
        ("a: \0", "file.yaml", "NUL"),
        ("a: \ud800", "file.yaml", "half a character"),
        ("#" * (MAX_BYTES + 1), "file.yaml", f"at most {MAX_BYTES}"),
        ("[" * 65 + "]" * 65, "file.yaml:1:65", "nesting deeper than 64"),
    ],
)
def test_what_is_no_yaml_of_ours(text: str | bytes, where: str, words: str) -> None:
    message = refusal(text)
    assert message.startswith("Invalid task YAML: ")
    assert where in message
    assert words in message


def test_an_alias_bomb_is_defused_before_it_is_written_out() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)]
    assert f"more than {MAX_NODES} values" in refusal("\n".join(lines))


def test_aliases_within_bounds_are_written_out() -> None:
    assert read("a: &x {k: [1]}\nb: *x\n") == {"a": {"k": [1]}, "b": {"k": [1]}}


@pytest.mark.parametrize("name", ["missing.yaml", "folder", "a\0b"])
def test_files_that_cannot_be_read(tmp_path, name: str) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidSkyPilotConfigError, match="Invalid task YAML: "):
        read_file(f"{tmp_path}/{name}")
