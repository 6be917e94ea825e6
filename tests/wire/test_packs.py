"""Many small files in one piece."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sky.core.errors import ClientError
from sky.wire.packs import packed, unpack

NAMES = st.text("0123456789abcdef", min_size=64, max_size=64)
BLOBS = st.lists(st.tuples(NAMES, st.binary(max_size=200)), max_size=10)


@given(BLOBS)
def test_what_was_packed_is_unpacked(blobs):
    assert unpack(b"".join(packed(name, content) for name, content in blobs)) == blobs


@given(BLOBS.filter(bool), st.data())
def test_a_pack_that_is_cut_off_is_refused(blobs, data):
    whole = b"".join(packed(name, content) for name, content in blobs)
    ends, at = {0}, 0
    for _, content in blobs:
        at += 72 + len(content)
        ends.add(at)
    cut = data.draw(st.integers(1, len(whole) - 1))
    if cut in ends:
        assert len(unpack(whole[:cut])) < len(blobs)
    else:
        with pytest.raises(ClientError, match="ends in the middle"):
            unpack(whole[:cut])
