"""Users as a table of comma-separated values, in and out; the form that `/users/import` and `/users/export` take.

The first line names the columns: `username`, and `password` and `role` if they are there. A password is one, or what is
kept of one (see `server.passwords`); exported are the latter.
"""

import csv
import io
from collections.abc import Iterable
from typing import NamedTuple

from sky.core.model.users import Role, check_user_name, read_role
from sky.server.passwords import check_password, is_hash

COLUMNS = ("username", "password", "role")
#: Lines of one table.
_MOST = 10_000


class Row(NamedTuple):
    """One user. An empty password: they come by a login or a proxy."""

    name: str
    password: str
    role: Role | None


def read_roster(text: str) -> tuple[list[Row], list[str]]:
    """The users of a table, and what is wrong with those of its lines that are none. Raises ValueError."""
    lines = csv.DictReader(io.StringIO(text), restval="", strict=True)
    try:
        named = [str(each).strip().lower() for each in lines.fieldnames or ()]
        lines.fieldnames = named
        if "username" not in named or set(named) - set(COLUMNS):
            raise ValueError(
                f"the first line names the columns: found {', '.join(named)[:200] or 'nothing'}; allowed: "
                "username, password, role"
            )
        rows: list[Row] = []
        wrong: list[str] = []
        seen: set[str] = set()
        for told in lines:
            if len(rows) + len(wrong) >= _MOST:
                raise ValueError(f"the table has more than {_MOST} lines")
            try:
                row = _row(told)
                if row.name in seen:
                    raise ValueError(f"{row.name} is there twice")
            except ValueError as refused:
                wrong.append(f"line {lines.line_num}: {refused}")
            else:
                seen.add(row.name)
                rows.append(row)
    except csv.Error as broken:
        raise ValueError(f"line {lines.line_num} is not comma-separated values: {broken}") from None
    return rows, wrong


def _row(told: dict[str, str]) -> Row:
    # Values beyond the columns are listed under None.
    if None in told:
        raise ValueError("more values than columns")
    password = told.get("password", "")
    if password.startswith("$") and not is_hash(password):
        raise ValueError("a password that was hashed elsewhere; only scrypt's form of this server is read")
    if password and not is_hash(password):
        check_password(password)
    role = told.get("role", "").strip()
    return Row(check_user_name(told["username"].strip()), password, read_role(role) if role else None)


def write_roster(rows: Iterable[Row]) -> str:
    """The table of these users."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(COLUMNS)
    lines.writerows([row.name, row.password, row.role.value if row.role else ""] for row in rows)
    return out.getvalue()
