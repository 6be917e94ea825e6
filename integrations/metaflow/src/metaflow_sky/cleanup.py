"""Ends what launchers have begun that were killed before they could. Called where a run of a flow has failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from metaflow_sky.launch import server


def call_off(names: list[str], *, managed: bool, endpoint: str | None) -> None:
    """End launches, jobs and clusters of these names, those that are over excepted. Never raises."""
    with server(endpoint):
        if managed:
            for name in names:
                with _told(name):
                    _end_managed(name)
            return
        for name in names:
            with _told(name):
                _end(name)


def _end(name: str) -> None:
    import sky  # noqa: PLC0415 - needed by runs that failed alone

    under_way = [str(each.request_id) for each in sky.api_status(cluster_name=name) if not each.status.is_terminal()]
    if under_way:
        sky.get(sky.api_cancel(under_way, silent=True))
    if sky.get(sky.status([name])):
        sky.get(sky.down(name))


def _end_managed(name: str) -> None:
    import sky  # noqa: PLC0415 - needed by runs that failed alone

    jobs = [each.job_id for each in sky.get(sky.jobs.queue(skip_finished=True)) if each.job_name == name]
    if jobs:
        sky.get(sky.jobs.cancel(job_ids=jobs))


@contextmanager
def _told(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as failed:  # noqa: BLE001 - why the run failed is more important, and the others are still to end
        print(f"Sky job {name} could not be called off: {failed}. See `sky status`.")
