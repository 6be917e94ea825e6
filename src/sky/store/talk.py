"""Talk of requests as lines on record, where servers share no directory. Written and read by `engine.talk`.

A line is a row of the stories under a noun of its own, so it goes with its request and takes no table more.
"""

from collections.abc import Sequence

from sqlalchemy import bindparam, insert, select

from sky.store.database import Database
from sky.store.schema import STORIES
from sky.store.statements import Prepared

#: What these lines are about, beside clusters, jobs and requests.
NOUN = "talk"
_T = STORIES.c
_READ = Prepared(
    select(_T.text).where(_T.entity == bindparam("noun"), _T.entity_id == bindparam("wanted")).order_by(_T.seq)
)
_ADD = Prepared(insert(STORIES).values({c.name: bindparam(c.name) for c in STORIES.c if c.name != "seq"}))


class SqlTalk:
    """See `engine.talk.Lines`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def add(self, lines: Sequence[tuple[str, str]], now: float) -> None:
        """Write lines, each with the id of its request, in this order."""
        async with self._db.write() as tx:
            for id, text in lines:
                await tx.number(
                    _ADD, time=now, entity=NOUN, entity_id=id, name=id, kind="", before="", after="", text=text
                )

    async def read(self, request_id: str) -> list[str]:
        """All lines of a request, in order."""
        async with self._db.read() as tx:
            return [text for (text,) in await tx.all(_READ, noun=NOUN, wanted=request_id)]
