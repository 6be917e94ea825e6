"""Request ids as the SDK hands them out: what a call returns, and what `sky.get` turns into a value."""

from __future__ import annotations

from typing import Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Answer:
    """What came back with the id already: a read is carried out in the same round trip."""

    __slots__ = ("error", "result")

    def __init__(self, result: object = None, error: object = None) -> None:
        self.result = result
        self.error = error


class RequestId(str, Generic[T_co]):
    """The id of a request whose value is a `T`: a plain string that outlives this process.

    `name` is the call that it belongs to; `answer` is the outcome if it is known already.
    """

    name: str
    answer: Answer | None

    def __new__(cls, id: str, name: str = "", answer: Answer | None = None) -> RequestId[T_co]:
        """Wrap an id."""
        made = super().__new__(cls, id)
        made.name = name
        made.answer = answer
        return made

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        # Travels as the plain id: what is known of the outcome here is asked for again elsewhere.
        return str, (str(self),)
