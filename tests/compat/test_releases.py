"""The release before this one and this one: each one's client against the other's server, and one's records after
the other's.

From the first tagged version on; until then `SKY_COMPAT_REV=REVISION` runs it against any.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from releases import ROOT, Version, home, previous, taken_out

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

#: What `sky logs` ends with for a job that has not ended.
UNENDED = 101


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The other version's source."""
    return taken_out(previous(), tmp_path_factory.mktemp("previous"))


@pytest.fixture
def folder() -> Iterator[Path]:
    with home() as made:
        yield made


def whole_day(client: Version, at: str) -> None:
    """What somebody does with a cluster, each command once."""
    assert "Job finished (status: SUCCEEDED)" in client.sky("launch", "-c", "one", "-y", "echo from-the-job", at=at)
    (cluster,) = client.told("status", at=at)
    assert (cluster["name"], cluster["status"]) == ("one", "UP")
    assert "from-the-job" in client.sky("logs", "one", "1", at=at)
    assert "second" in client.sky("exec", "one", "echo second", at=at)
    assert {job["job_id"] for job in client.told("queue", "one", at=at)} == {1, 2}
    assert "launch" in client.sky("api", "status", "-a", at=at)
    assert "PROVISIONING" in client.sky("events", "one", at=at)
    client.sky("autostop", "one", "-i", "60", "-y", at=at)
    client.sky("exec", "-d", "one", "sleep 60", at=at)
    client.sky("cancel", "one", "3", "-y", at=at)
    assert "one" in client.sky("cost-report", at=at)
    client.sky("check", "local", at=at)
    client.sky("stop", "one", "-y", at=at)
    client.sky("start", "one", "-y", at=at)
    assert "no-such" in client.sky("down", "no-such", "-y", at=at, code=1)
    client.sky("down", "one", "-y", at=at)
    assert client.told("status", at=at) == []


def test_the_previous_client_at_this_server(tree: Path, folder: Path) -> None:
    with Version(ROOT, folder).serving() as address:
        whole_day(Version(tree, folder), address)


def test_this_client_at_the_previous_server(tree: Path, folder: Path) -> None:
    with Version(tree, folder).serving() as address:
        whole_day(Version(ROOT, folder), address)


def test_an_upgrade_and_a_step_back_keep_clusters_and_jobs(tree: Path, folder: Path) -> None:
    before, now = Version(tree, folder), Version(ROOT, folder)
    with before.serving() as address:
        before.sky("launch", "-c", "one", "-y", "-d", "echo kept; sleep 600", at=address)
    try:
        for version in (now, before):
            if version is before and before.schema() != now.schema():
                now.bring_records_to(before.schema())
            with version.serving() as address:
                (cluster,) = version.told("status", at=address)
                assert (cluster["name"], cluster["status"]) == ("one", "UP")
                assert "kept" in version.sky("logs", "one", "1", "--no-follow", at=address, code=UNENDED)
                assert [job["status"] for job in version.told("queue", "one", at=address) if job["job_id"] == 1] == [
                    "RUNNING"
                ]
                version.sky("exec", "one", "true", at=address)
    finally:
        with now.serving() as address:
            now.sky("down", "one", "-y", at=address)
