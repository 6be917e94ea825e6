"""The store on PostgreSQL, which several servers share; made by `server.assembly`.

Few connections, each lent for one transaction; statements wait for one in turn, calls for some that are theirs alone:
a thousand launches under way hold up nobody who asks how they are. Through PgBouncer in transaction mode
nothing outlives a transaction: no named statement, no setting. What cannot do without a connection of its own, wake-ups
and changes of the schema, takes the direct address.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import CreateIndex, CreateTable

from sky.core.errors import ServerTemporarilyUnavailableError
from sky.kit.backoff import delays
from sky.kit.current import CALL
from sky.kit.signals import Signals
from sky.store.bells import Bells
from sky.store.database import Conflict, Statement
from sky.store.records import SqlStore
from sky.store.schema import METADATA, REVISION, SCHEMA_LOCK
from sky.store.sealing import Sealer
from sky.store.statements import Prepared

log = logging.getLogger(__name__)

#: Connections of one server at most, unless it is told otherwise; of so many one is for what calls write alone, and
#: one for what they ask: who asks how things are waits for none of a hundred launches that are being asked for.
CONNECTIONS, _FOR_CALLS = 10, 5
#: Seconds for a statement, for a free connection, and for the database to be there when the server starts.
_STATEMENT_S, _FREE_S, _START_S = 30.0, 30.0, 15.0
#: Seconds for which a transaction that cannot begin is tried again: a database that is started anew takes some.
_PATIENCE_S = 8.0
#: A server that is stopped in the middle of a transaction must not hold its rows from all others for longer.
_HELD_S = 10.0
_IDLE = "idle_in_transaction_session_timeout"
#: That setting ends who is stopped between two statements. Stopped within one, between its words and its values, it
#: counts as at work, and no time limit of the database's reaches who is being read from. So the others end it.
_END_STOPPED = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND application_name = 'sky'
AND state = 'active' AND wait_event = 'ClientRead' AND clock_timestamp() - state_change > $1 * interval '1 second'
"""

#: What says that the database is out of reach for now, or is not what it was.
_OUTAGES = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.InvalidTransactionStateError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.ProtocolViolationError,
)


@dataclass(frozen=True, slots=True)
class Target:
    """Where the database is: `direct`, and `pooled` where statements go through PgBouncer. Both may hold a password."""

    direct: str
    pooled: str | None = None
    connections: int = CONNECTIONS

    def __post_init__(self) -> None:
        """Bring both to the form that the driver reads. Raises ValueError, without the address, for another kind."""
        object.__setattr__(self, "direct", _plain(self.direct))
        if self.pooled is not None:
            object.__setattr__(self, "pooled", _plain(self.pooled))

    def __repr__(self) -> str:
        return f"Target({self.shown!r})"

    @property
    def shown(self) -> str:
        """The address without its password."""
        parts = urlsplit(self.pooled or self.direct)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _plain(uri: str) -> str:
    scheme, found, rest = uri.strip().partition("://")
    if not found or scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise ValueError(
            f"The database's address begins with {scheme.partition('+')[0][:20]!r}; "
            "it has to be postgresql://user:password@host:port/database"
        )
    return f"postgresql://{rest}"


class PostgresStore(SqlStore):
    """See `core.ports.Store`. `signals`, where given, then also hear what other servers notify."""

    def __init__(self, target: Target, signals: Signals | None = None, sealer: Sealer | None = None) -> None:
        self._shared = PostgresDatabase(target)
        self._bells = None if signals is None else Bells(self._shared.send, target.direct, signals)
        self._watch: asyncio.Task[None] | None = None
        super().__init__(self._shared, sealer)

    async def connect(self) -> None:
        """Open connections and bring the schema up to date. Raises OSError or RuntimeError with the reason."""
        await self._shared.connect()
        await self.keep_sealed()
        if self._bells is not None:
            self._bells.start()
        self._watch = asyncio.create_task(self._end_stopped(), name="stopped servers")

    async def close(self) -> None:
        """Close connections."""
        if self._bells is not None:
            await self._bells.stop()
        if self._watch is not None:
            self._watch.cancel()
        await self._shared.close()

    async def _end_stopped(self) -> None:
        # As a call: those for work may all wait for what is held.
        CALL.set(True)
        while True:
            await asyncio.sleep(_HELD_S / 3)
            try:
                if ended := await self._shared.end_stopped():
                    log.warning("%d transactions of a server that does not go on were ended", ended)
            except ServerTemporarilyUnavailableError as away:
                log.info("who was stopped cannot be looked for: %s", away)
            except Exception:  # the next look may find it right again
                log.exception("who was stopped cannot be looked for")


class PostgresDatabase:
    """See `store.database.Database`."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.dialect: Dialect = asyncpg_dialect()  # type: ignore[no-untyped-call]
        #: The connections for work, for what calls write, and for what calls ask.
        self._pools: tuple[asyncpg.Pool, asyncpg.Pool, asyncpg.Pool] | None = None
        #: Whether PgBouncer, or another of its kind, stands between us and the database.
        self.pooled = target.pooled is not None

    def pool(self, *, reads: bool) -> asyncpg.Pool:
        """The connections for whoever asks. Raises RuntimeError before `connect`."""
        if self._pools is None:
            raise RuntimeError("the database is not connected")
        return self._pools[(2 if reads else 1) if CALL.get() else 0]

    async def connect(self) -> None:
        """Wait a little for the database, settle its schema, open the pool."""
        pauses = delays(0.1, ceiling=2.0)
        reason = f"nothing came within {_START_S:g} s"
        try:
            async with asyncio.timeout(_START_S):
                while True:
                    try:
                        await self._prepare()
                        break
                    except (OSError, asyncpg.CannotConnectNowError) as away:
                        reason = str(away) or reason  # that time is up has no words of its own
                        await asyncio.sleep(next(pauses))
        except TimeoutError:
            raise ConnectionError(f"the database {self.target.shown} does not answer: {reason}") from None
        except asyncpg.PostgresError as refused:
            raise ConnectionError(f"the database {self.target.shown} refuses us: {refused}") from None
        calls = max(1, self.target.connections // _FOR_CALLS)
        self._pools = (
            await self._opened(max(1, self.target.connections - 2 * calls)),
            await self._opened(calls),
            await self._opened(calls),
        )

    async def _opened(self, most: int) -> asyncpg.Pool:
        return await asyncpg.create_pool(
            self.target.pooled or self.target.direct,
            min_size=1,
            max_size=most,
            command_timeout=_STATEMENT_S,
            connection_class=_Connection,
            statement_cache_size=0 if self.pooled else 256,
            server_settings={"application_name": "sky"} | ({} if self.pooled else {_IDLE: _held_ms()}),
        )

    async def close(self) -> None:
        """Close all connections; those that are still at work are cut off after a moment."""
        for pool in self._pools or ():
            try:
                async with asyncio.timeout(1.0):
                    await pool.close()
            except (TimeoutError, *_OUTAGES):
                pool.terminate()

    def write(self) -> "_Block":
        """A transaction; each statement of it sees what others committed before that statement."""
        begin = f"BEGIN; SET LOCAL {_IDLE} = {_held_ms()}" if self.pooled else "BEGIN"
        return _Block(self, begin)

    def read(self) -> "_Block":
        """Statements one by one; through PgBouncer a transaction, since only that is sure of one connection."""
        return _Block(self, "BEGIN READ ONLY" if self.pooled else None, reads=True)

    async def send(self, channel: str, payload: str) -> None:
        """Notify every listener of a channel."""
        async with self.write() as tx:
            await tx.plain("SELECT pg_notify($1, $2)", channel, payload)

    async def end_stopped(self) -> int:
        """End transactions of servers that were stopped in the midst of a statement; how many."""
        async with self.read() as tx:
            return len(await tx.rows(_END_STOPPED, _HELD_S))

    def in_words(self, error: BaseException) -> BaseException:
        """What a failure means to who asked."""
        if isinstance(error, asyncpg.UniqueViolationError):
            return Conflict(str(error))
        if isinstance(error, _OUTAGES):
            return ServerTemporarilyUnavailableError(
                f"The server's database {self.target.shown} cannot be used just now: {error or type(error).__name__}. "
                "Ask again in a moment."
            )
        return error

    async def _prepare(self) -> None:
        """Make the schema, or migrate it; of several servers that start at once, one does."""
        connection = await asyncpg.connect(self.target.direct, timeout=_START_S / 3, statement_cache_size=0)
        try:
            async with connection.transaction():
                # Who stands between gives the connection a number of its own.
                if await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid():
                    self.pooled = True
                # Who is stopped now must not keep the others from starting.
                await connection.execute(f"SET LOCAL {_IDLE} = {_held_ms()}")
                await connection.execute(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")
                found = await revision(connection)
                if found is None:
                    for words in self._schema():
                        await connection.execute(words)
                    return
        finally:
            await connection.close()
        if found != REVISION:
            log.warning("migrating %s from revision %s to %s", self.target.shown, found, REVISION)
            # Few servers ever start on a database of another version.
            from sky.store.migrate import migrate_shared  # noqa: PLC0415

            await migrate_shared(self.target.direct)

    def _schema(self) -> list[str]:
        tables = METADATA.sorted_tables
        made = [str(CreateTable(table).compile(dialect=self.dialect)) for table in tables]
        made += [str(CreateIndex(index).compile(dialect=self.dialect)) for table in tables for index in table.indexes]
        made.append("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        made.append(f"INSERT INTO alembic_version VALUES ('{REVISION}')")  # noqa: S608 - a constant
        return made


def _held_ms() -> str:
    return str(round(_HELD_S * 1000))


async def revision(connection: asyncpg.Connection) -> str | None:
    """The version of the schema; None where there is none yet."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    found: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    return found


class _Connection(asyncpg.Connection):  # type: ignore[misc] # the library has no types
    """One that is given back as it is: nothing of ours outlives a transaction, so there is nothing to reset."""

    def get_reset_query(self) -> str:
        return ""


class _Block:
    """`async with` for one connection, in a transaction unless `begin` is None."""

    __slots__ = ("_begin", "_connection", "_database", "_pool", "_reads")

    def __init__(self, database: PostgresDatabase, begin: str | None, *, reads: bool = False) -> None:
        self._database = database
        self._pool = database.pool(reads=reads)
        self._begin = begin
        self._reads = reads

    async def __aenter__(self) -> "_Transaction":
        self._connection = await self._had()
        return _Transaction(self._connection, self._database.dialect, self._anew if self._reads else None)

    async def _anew(self) -> Any:
        """Another connection in place of one that broke under a question, which can be asked again."""
        await self._give_back(self._connection)
        self._connection = await self._had()
        return self._connection

    async def _had(self) -> Any:
        database, pauses = self._database, delays(0.05, ceiling=1.0)
        give_up = asyncio.get_running_loop().time() + _PATIENCE_S
        while True:
            try:
                return await self._begun()
            except Exception as error:
                # Nothing was done yet, so a database that is being started again or moved costs a moment only.
                if not isinstance(error, _OUTAGES) or asyncio.get_running_loop().time() > give_up:
                    raise database.in_words(error) from error
            await asyncio.sleep(next(pauses))

    async def _begun(self) -> Any:
        connection = await self._pool.acquire(timeout=_FREE_S)
        if self._begin is not None:
            try:
                await connection.execute(self._begin)
            except BaseException:
                await self._give_back(connection)
                raise
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, failed: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._begin is not None:
                await self._connection.execute("COMMIT" if failed is None else "ROLLBACK")
        except Exception as error:
            if failed is None:
                raise self._database.in_words(error) from error
        finally:
            await self._give_back(self._connection)
        if isinstance(failed, Exception):
            told = self._database.in_words(failed)
            if told is not failed:
                raise told from failed

    async def _give_back(self, connection: Any) -> None:
        # One that broke has left the pool by itself.
        with suppress(asyncpg.InterfaceError):
            if not connection.is_closed() and connection.is_in_transaction():
                # Cancelled in the midst of it: the server takes everything back.
                connection.terminate()
            await self._pool.release(connection)


class _Transaction:
    """See `store.database.Transaction`."""

    __slots__ = ("_anew", "_connection", "_dialect")

    def __init__(self, connection: Any, dialect: Dialect, anew: Callable[[], Awaitable[Any]] | None) -> None:
        self._connection = connection
        self._dialect = dialect
        self._anew = anew

    async def _ask(self, how: str, statement: Statement, values: dict[str, Any]) -> Any:
        words, given = self._bound(statement, values)
        give_up = asyncio.get_running_loop().time() + _PATIENCE_S
        while True:
            try:
                return await getattr(self._connection, how)(words, *given)
            except _OUTAGES as broke:
                # What takes too long would do so again.
                late = isinstance(broke, TimeoutError) or asyncio.get_running_loop().time() > give_up
                if self._anew is None or late:
                    raise
            # Others of the pool may have broken with it, and not know yet.
            self._connection = await self._anew()

    def _bound(self, statement: Statement, values: dict[str, Any]) -> tuple[str, list[Any]]:
        prepared = statement if isinstance(statement, Prepared) else Prepared(statement)
        words, given = prepared.bound(self._dialect, values)
        # PostgreSQL's texts have no zero byte; a cloud's error may.
        return words, [
            each.replace("\0", "\ufffd") if each.__class__ is str and "\0" in each else each for each in given
        ]

    async def all(self, statement: Statement, **values: Any) -> Sequence[Sequence[Any]]:
        found: Sequence[Sequence[Any]] = await self._ask("fetch", statement, values)
        return found

    async def first(self, statement: Statement, **values: Any) -> Sequence[Any] | None:
        found: Sequence[Any] | None = await self._ask("fetchrow", statement, values)
        return found

    async def scalar(self, statement: Statement, **values: Any) -> Any:
        return await self._ask("fetchval", statement, values)

    async def change(self, statement: Statement, **values: Any) -> int:
        words, given = self._bound(statement, values)
        done: str = await self.plain(words, *given)
        return int(done.rpartition(" ")[2])

    async def number(self, statement: Statement, **values: Any) -> int:
        made: int = await self._ask("fetchval", statement, values)
        return made

    async def rows(self, words: str, *given: Any) -> Sequence[Sequence[Any]]:
        """What a question in the server's own language finds."""
        found: Sequence[Sequence[Any]] = await self._connection.fetch(words, *given)
        return found

    async def plain(self, words: str, *given: Any) -> str:
        """What the server says of a statement in its own language."""
        done: str = await self._connection.execute(words, *given)
        return done
