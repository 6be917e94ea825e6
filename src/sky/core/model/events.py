"""The story of a thing: one line per change, kept for as long as the thing and a while after."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a story.

    `entity` is `cluster`, `job` or `request`; `kind` is the event's name; `text` is for people;
    `before` and `after` are statuses (equal where nothing changed).
    """

    seq: int
    time: float
    entity: str
    entity_id: str
    name: str
    kind: str
    before: str
    after: str
    text: str
