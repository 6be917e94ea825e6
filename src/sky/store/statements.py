"""Statements built once with SQLAlchemy and then run as text: building and keying one costs ten times its execution.

Used by the repositories for whatever they do more than now and then. One statement serves both databases; what they
say differently is told apart here, when it is compiled: the time, and a list of values.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import ARRAY, ClauseElement, ColumnElement, Float, String, bindparam
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import NullType

#: The database's own clock in seconds since the epoch: as of the statement, so that an index can be used with it.
_DATABASE_CLOCK = "extract(epoch from statement_timestamp())::float8"


class Now(ColumnElement[float]):
    """The time: of the database where several servers share one, else the parameter `now`.

    Servers whose clocks differ agree on leases because none of these is ever compared with a clock of theirs.
    """

    inherit_cache = False
    type = Float()


class At(ColumnElement[float]):
    """A time of the caller's clock, the parameter `name`, on the clock of `Now`; the parameter `now` is needed too."""

    inherit_cache = False
    type = Float()

    def __init__(self, name: str) -> None:
        self.name = name


class Among(ColumnElement[bool]):
    """Whether a column's text is in a list of any length: the parameter `name`, a list of strings."""

    inherit_cache = False
    # Of no type: a truth value would be compared with 1 on SQLite, which then reads every row instead of an index.
    type = NullType()  # type: ignore[assignment]

    def __init__(self, column: ColumnElement[str], name: str) -> None:
        self.column = column
        self.name = name


@compiles(Now)
def _now(element: Now, compiler: SQLCompiler, **_: Any) -> str:
    return compiler.process(bindparam("now", type_=Float()))


@compiles(Now, "postgresql")
def _now_shared(element: Now, compiler: SQLCompiler, **_: Any) -> str:
    return _DATABASE_CLOCK


@compiles(At)
def _at(element: At, compiler: SQLCompiler, **_: Any) -> str:
    return compiler.process(bindparam(element.name, type_=Float()))


@compiles(At, "postgresql")
def _at_shared(element: At, compiler: SQLCompiler, **_: Any) -> str:
    then, now = (compiler.process(bindparam(name, type_=Float())) for name in (element.name, "now"))
    return f"({_DATABASE_CLOCK} + ({then} - {now}))"


@compiles(Among)
def _among(element: Among, compiler: SQLCompiler, **_: Any) -> str:
    # The driver is handed the list as JSON.
    listed = compiler.process(bindparam(element.name, type_=String()))
    return f"{compiler.process(element.column)} IN (SELECT value FROM json_each({listed}))"  # noqa: S608 - both compiled


@compiles(Among, "postgresql")
def _among_shared(element: Among, compiler: SQLCompiler, **_: Any) -> str:
    listed = compiler.process(bindparam(element.name, type_=ARRAY(String())))
    return f"{compiler.process(element.column)} = ANY ({listed})"


#: The text, its arguments from values by name, and values that are the statement's own.
_Compiled = tuple[str, Callable[[Mapping[str, Any]], Sequence[Any]], dict[str, Any]]


class Prepared:
    """One statement with named `bindparam`s; compiled for a dialect when it is first run on it."""

    __slots__ = ("_compiled", "_statement")

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._compiled: dict[str, _Compiled] = {}

    def bound(self, dialect: Dialect, values: Mapping[str, Any]) -> tuple[str, Sequence[Any]]:
        """Text and arguments in order. Values go to the driver as they are. Raises KeyError for one that is missing."""
        text, given, fixed = self._compiled.get(dialect.name) or self._compile(dialect)
        return text, given({**fixed, **values} if fixed else values)

    def _compile(self, dialect: Dialect) -> _Compiled:
        compiled = self._statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        assert isinstance(compiled, SQLCompiler)
        open_names = {name for name, bind in compiled.binds.items() if bind.required}
        fixed = {name: value for name, value in compiled.params.items() if name not in open_names}
        made = (str(compiled), _in_order(tuple(compiled.positiontup or ())), fixed)
        self._compiled[dialect.name] = made
        return made


def _in_order(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: [values[name] for name in names]
