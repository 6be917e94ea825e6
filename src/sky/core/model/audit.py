"""A line of the audit log: who asked for what, from where, and what they were answered. Kept by `store.audit`."""

from typing import NamedTuple


class AuditLine(NamedTuple):
    """One call that changes something, or tried to.

    A call writes a line before it is carried out, whose `outcome` is empty, and another with the same `call` once it
    is answered: a call that has only the first was cut short. `at` is seconds since the epoch. `detail` is JSON of
    arguments that are known to hold no secret.
    """

    at: float
    call: str
    user: str
    via: str
    address: str
    operation: str
    target: str = ""
    workspace: str = ""
    request_id: str = ""
    outcome: str = ""
    detail: str = ""
    token: str = ""
    seq: int = 0
