"""Messages of those who look after a server. Used by `server.routes.upkeep`."""

from sky.wire.codec import Body, Record, field


class FileBody(Body):
    """A new file on the server's machine, by its absolute path."""

    path: str


class WrittenFile(Record):
    """The file, and how large it has become."""

    path: str
    bytes: int


class RotateBody(Body):
    """`going_on`: only wait for what was begun."""

    going_on: bool = False


class RotatedKey(Record):
    """The id of the key that is used from now on, and how many rows were sealed with it anew, once it is over."""

    key: str
    rows: int
    over: bool = True


class Readiness(Record):
    """Whether the server can do its work; `trouble` says why not, to its owner."""

    ready: bool
    trouble: list[str] = field(default_factory=list)
