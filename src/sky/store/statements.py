"""Statements built once with SQLAlchemy and then run as text: building and keying one costs ten times its execution.

Used by the repositories for whatever they do more than now and then.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ClauseElement, Connection


class Prepared:
    """One statement with named `bindparam`s; compiled for the connection's dialect when it is first run."""

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._text = ""
        self._order: Sequence[str] = ()
        self._fixed: dict[str, Any] = {}

    def run(self, connection: Connection, **values: Any) -> Any:
        """Execute with these values; the driver's cursor result. Values go to the driver as they are."""
        if not self._text:
            self._compile(connection)
        given = {**self._fixed, **values}
        return connection.exec_driver_sql(self._text, tuple(given[name] for name in self._order))

    def _compile(self, connection: Connection) -> None:
        compiled = self._statement.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
        self._fixed = dict(compiled.params)
        self._order = tuple(getattr(compiled, "positiontup", None) or ())
        self._text = str(compiled)
