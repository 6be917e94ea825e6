"""Names by which a try, and those before it, are found again. Called by the operators."""

from __future__ import annotations

import hashlib
import re
from typing import Any

#: Tries before this one that are looked for.
_LOOK_BACK = 5
_LONGEST = 30


def stem_of(context: Any, name: str | None) -> str:
    """What the names of all tries of this task instance begin with, and no other's.

    The moment when the run began is part of it: another Airflow at the same Sky server has runs of the same names.
    """
    ti, run = context["ti"], context["dag_run"]
    began = getattr(run, "start_date", None) or getattr(run, "run_after", None) or ""
    seed = "\n".join(map(str, (ti.dag_id, ti.run_id, ti.task_id, getattr(ti, "map_index", -1), began)))
    return f"{slug(name or f'{ti.dag_id}-{ti.task_id}')}-{hashlib.blake2s(seed.encode(), digest_size=4).hexdigest()}"


def of_try(stem: str, number: int) -> str:
    """The name of one try."""
    return f"{stem}-t{number}"


def before(stem: str, number: int) -> list[str]:
    """The names of the tries before this one, newest first."""
    return [of_try(stem, each) for each in range(number - 1, max(0, number - 1 - _LOOK_BACK), -1)]


def slug(text: str) -> str:
    """A text as part of a cluster's name."""
    found = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST].strip("-") or "airflow"
    return found if found[0].isalpha() else f"a-{found}"
