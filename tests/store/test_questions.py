"""What is asked again and again does not read every row that there ever was: rows of what has ended stay for years."""

import pytest

from sky.store.sqlite import SqliteStore

#: Questions of the server's loops and of its metrics, as they are asked every few seconds.
OFTEN = {
    "clusters that live": lambda s: s.clusters.living(),
    "clusters of late": lambda s: s.clusters.since(5.0),
    "jobs without a cluster": lambda s: s.jobs.bereft(),
    "requests that have not ended": lambda s: s.requests.unended(),
    "managed jobs whose cluster has moved on": lambda s: s.managed_jobs.moved(10),
    "managed jobs with a log": lambda s: s.managed_jobs.logged(),
    "managed jobs with a bound": lambda s: s.managed_jobs.limited(),
    "managed jobs that wait": lambda s: s.managed_jobs.waiting(10),
    "managed jobs under way": lambda s: s.managed_jobs.under_way(),
    "managed jobs whose wait is over": lambda s: s.managed_jobs.waits_over(10),
    "managed jobs before one": lambda s: s.managed_jobs.before(1.0),
    "parents": lambda s: s.managed_jobs.leading(),
    "clusters that no managed job needs": lambda s: s.managed_jobs.stray_clusters(),
    "clusters that no pool needs": lambda s: s.pools.stray_clusters(),
    "what is due": lambda s: s.counts(1.0),
    "what may be claimed": lambda s: s.clusters.claim(1.0, 1.0, "t", 5),
}


@pytest.mark.parametrize("asked", OFTEN)
async def test_no_table_is_read_row_by_row(asked, tmp_path):
    store = SqliteStore(tmp_path / "state.db")
    raw, said = store._file._transaction.raw, []
    raw.set_trace_callback(said.append)
    await OFTEN[asked](store)
    raw.set_trace_callback(None)
    questions = [each for each in said if each.upper().startswith("SELECT")]
    assert questions
    for question in questions:
        plan = [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {question}")]
        whole = [step for step in plan if step.startswith("SCAN") and "INDEX" not in step]
        assert whole == [], f"{question}\n{plan}"
    await store.close()
