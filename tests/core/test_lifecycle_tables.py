"""All tables: every (status, event) pair is ruled or ignored, and ends are ends."""

import pytest

from sky.core.lifecycle import clusters, jobs, managed_jobs, pools, requests

TABLES = {
    "cluster": clusters.TABLE, "job": jobs.TABLE, "request": requests.TABLE, "managed_job": managed_jobs.TABLE,
    "pool": pools.TABLE,
}  # fmt: skip
ENDS = {
    "cluster": {"TERMINATED"},
    "job": {"DONE"},
    "request": {"SUCCEEDED", "FAILED", "CANCELLED"},
    "managed_job": {"DONE"},
    "pool": {"DONE"},
}


@pytest.mark.parametrize("noun", TABLES)
def test_every_pair_is_ruled_or_ignored(noun):
    assert TABLES[noun].gaps() == []


@pytest.mark.parametrize("noun", TABLES)
def test_every_ignored_pair_says_why(noun):
    assert all(len(reason) > 5 for reason in TABLES[noun].ignored().values())


@pytest.mark.parametrize("noun", TABLES)
def test_nothing_leaves_an_end(noun):
    assert not [arrow for arrow in TABLES[noun].arrows() if arrow[0] in ENDS[noun] and arrow[2] != arrow[0]]


@pytest.mark.parametrize("noun", TABLES)
def test_every_status_can_be_left_or_is_an_end(noun):
    left = {before for before, _, after in TABLES[noun].arrows() if before != after}
    statuses = {status.value for status in TABLES[noun].statuses}
    # WAITING of a request is shown by the interface but entered by nothing yet.
    assert statuses - left - ENDS[noun] == set()
