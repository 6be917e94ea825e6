"""Ids have the form that others rely on, and do not repeat."""

import uuid

from sky.kit.ids import new_id, request_id, short_token


def test_request_ids_are_random_uuids():
    found = {request_id() for _ in range(1000)}
    assert len(found) == 1000
    assert {(uuid.UUID(each).version, uuid.UUID(each).variant, str(uuid.UUID(each)) == each) for each in found} == {
        (4, uuid.RFC_4122, True)
    }


def test_ids_sort_by_their_time():
    made = [new_id(at) for at in (1.0, 2.5, 1e9, 2e9)]
    assert made == sorted(made)
    assert {len(each) for each in made} == {26}
    assert len({new_id(5.0) for _ in range(1000)}) == 1000


def test_tokens_are_as_long_as_asked():
    assert [len(short_token(length)) for length in (1, 4, 7)] == [1, 4, 7]
    assert int(short_token(8), 16) >= 0
