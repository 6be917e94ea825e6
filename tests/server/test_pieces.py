"""Answers in pieces say what the whole would, and hold no copy of what they share."""

import json

import pytest

from sky.server.pieces import Pieces, listed, pieces
from sky.server.reads import Read


@pytest.mark.parametrize("count", [0, 1, 2, 3000])
def test_a_list_of_pieces_is_the_list(count: int) -> None:
    items = [json.dumps({"at": at, "words": "x" * 500}).encode() for at in range(count)]
    made = listed(items).within(b'{"result":', b"}")
    chunks = list(made.chunks())
    assert json.loads(b"".join(chunks)) == {"result": [json.loads(each) for each in items]}
    assert len(made) == sum(map(len, chunks))
    assert max(map(len, chunks)) < 300_000
    assert (len(chunks) == 1) == (count < 100)


def test_nothing_is_copied_before_it_is_sent() -> None:
    item = b'{"name":"one"}'
    one, other = listed([item]), listed([item]).within(b"<", b">")
    assert one.parts[1] is item and other.parts[2] is item


def test_what_is_encoded_as_a_whole_is_one_piece() -> None:
    assert pieces(b"null") == Pieces((b"null",), 4)
    assert pieces(pieces(b"null")) == pieces(b"null")
    assert b"".join(pieces(b"").chunks()) == b""
    assert Read("id", "status", 0.0, result=listed([b"1", b"22"])).size == len("[1,22]")
