"""Files of variables."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sky.wire.dotenv import load_env_file, parse_dotenv


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("# words\n\n  # more\n", {}),
        ("A=1\nB = two words \r\nexport C=3", {"A": "1", "B": "two words", "C": "3"}),
        ("A=x # comment\nB=x#y\nC=# all\n", {"A": "x", "B": "x#y", "C": ""}),
        ("A='$B # x'\nB=\"a # b\" # c\n", {"A": "$B # x", "B": "a # b"}),
        ('A="line\\nnext\\t\\"q\\""\n', {"A": 'line\nnext\t"q"'}),
        ("A='one\ntwo'\nB=\"three\nfour\"\n", {"A": "one\ntwo", "B": "three\nfour"}),
        ("A=\nB=\"\"\nC=''", {"A": "", "B": "", "C": ""}),
        (
            "A=1\nB=${A}2\nC=${X:-d}\nD=${HOST}\nE='${A}'\nF=$A",
            {"A": "1", "B": "12", "C": "d", "D": "h", "E": "${A}", "F": "$A"},
        ),
        ("URL=https://x/?a=b&c=d\n", {"URL": "https://x/?a=b&c=d"}),
        ("\ufeffA=1", {"A": "1"}),
        ("A=1\nA=2", {"A": "2"}),
    ],
)
def test_forms(text: str, found: dict[str, str]) -> None:
    assert parse_dotenv(text, env={"HOST": "h"}) == found


@pytest.mark.parametrize("text", ["A", "A=1\nB\n", "A='x", 'A="x', "=x", "1A=x", "A-B=x", "A='x' y"])
def test_what_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^f\.env:\d+: found"):
        parse_dotenv(text, "f.env")


@given(st.text(alphabet="AB=#'\"\\$ {}\n\r\t:-x", max_size=60))
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        found = parse_dotenv(text)
    except ValueError as exc:
        assert "found" in str(exc)
    else:
        assert all(key.isidentifier() for key in found)


def test_files(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"A=1\n")
    assert load_env_file(file) == {"A": "1"}
    file.write_bytes(b"A=\xff")
    with pytest.raises(ValueError, match="not UTF-8"):
        load_env_file(file)
    with pytest.raises(ValueError, match="There is no file of variables"):
        load_env_file(tmp_path / "missing")
    with pytest.raises(ValueError, match="cannot be read"):
        load_env_file(tmp_path)
