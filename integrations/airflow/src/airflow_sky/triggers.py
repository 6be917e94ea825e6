"""The trigger that follows a run while its task is deferred: no worker and no thread is held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_sky import runs
from airflow_sky.hooks import DEFAULT_CONN_ID, SkyHook
from airflow_sky.lines import Lines


class SkyJobTrigger(BaseTrigger):
    """Waits for the end of what an operator began, and tells its log meanwhile. Fires once, with how it ended.

    work: as `runs.Work.told()` gives it; the token is the connection's. quiet: leave the log out. hidden: what the log
    must not show, as `sealed` gives it, for Airflow keeps what a trigger is made of in clear.
    """

    def __init__(
        self,
        work: dict[str, Any],
        sky_conn_id: str = DEFAULT_CONN_ID,
        quiet: bool = False,
        hidden: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.work = work
        self.sky_conn_id = sky_conn_id
        self.quiet = quiet
        self.hidden = list(hidden)

    def __repr__(self) -> str:
        return f"<SkyJobTrigger of '{self.work.get('name')}'>"

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class and arguments."""
        return (
            "airflow_sky.triggers.SkyJobTrigger",
            {"work": self.work, "sky_conn_id": self.sky_conn_id, "quiet": self.quiet, "hidden": self.hidden},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Follow it, also after a restart of the triggerer: the server knows all that this needs."""
        yield TriggerEvent((await self._ended()).told())

    async def on_kill(self) -> None:
        """Somebody marked or cleared the task: end what it began."""
        await self._at_server(lambda: runs.order_end(runs.Work.from_told(self.work)))

    async def _ended(self) -> runs.Ended:
        work = runs.Work.from_told(self.work)
        lines = Lines(self._ignore)
        try:
            lines = Lines(self._ignore if self.quiet else self._say, opened(self.hidden))
            server = await SkyHook(self.sky_conn_id).aserver()
            await asyncio.to_thread(_load)
            with server.serving():
                ended = await runs.afollow(work, lines)
        except Exception as failed:  # noqa: BLE001 - the task is to say it, and to end what it began
            return runs.failure(work, failed, lines)
        # The machines need not wait until a worker has time for the rest of the task.
        await self._at_server(lambda: runs.order_release(work))
        return ended

    async def _at_server(self, call: Any) -> None:
        server = await SkyHook(self.sky_conn_id).aserver()

        def inside() -> None:
            with server.serving():
                call()

        await asyncio.to_thread(inside)

    def _say(self, line: str) -> None:
        self.log.info("%s", line)

    def _ignore(self, line: str) -> None:
        """The lines are remembered all the same, for an error."""


def sealed(texts: Sequence[str]) -> list[str] | None:
    """Texts as only this Airflow can read them; None where it has no key (`core.fernet_key`)."""
    if not texts:
        return []
    from airflow.sdk.crypto import get_fernet  # noqa: PLC0415 - only tasks with secrets pay for it

    fernet = get_fernet()
    if not getattr(fernet, "is_encrypted", True):
        return None
    return [fernet.encrypt(each.encode()).decode() for each in texts]


def opened(texts: Sequence[str]) -> list[str]:
    """What was sealed. Raises ValueError if that was by another key."""
    if not texts:
        return []
    from airflow.sdk.crypto import get_fernet  # noqa: PLC0415 - only tasks with secrets pay for it

    fernet = get_fernet()
    try:
        return [fernet.decrypt(each.encode()).decode() for each in texts]
    except Exception as failed:
        raise ValueError("The task's secrets were sealed by another core.fernet_key than this one.") from failed


def _load() -> None:
    """In a thread, for importing takes longer than an event loop should stand still."""
    import sky.client.sdk_async  # noqa: PLC0415
    import sky.jobs.client.sdk_async  # noqa: PLC0415, F401
