"""Messages about the nodes of clusters: how a person on the server's machine gets onto them. Used by its routes."""

from sky.wire.codec import Body, Record, field


class NodesBody(Body):
    """Arguments of `/nodes`: names or globs of clusters; None for all."""

    cluster_names: list[str] | None = None


class EntranceRecord(Record):
    """An SSH server, and how it is known. Paths are of the server's machine; nothing here is secret.

    `identity` is the file of the key to log in with. Exactly one host key is right: `host_key`, or where that is empty,
    the one that the file `known_hosts` has for the name `known_as`. `proxy_command` speaks to it where no direct way
    leads there; it has no placeholders left.
    """

    host: str
    port: int
    user: str
    identity: str
    known_as: str
    host_key: str = ""
    known_hosts: str = ""
    proxy_command: str = ""


class NodeRecord(Record):
    """A node. `entrances` are the SSH servers on the way to it, its own (for `slurm`: the login node's) last.

    `kind` is `ssh`, `slurm` or `local`. `words` come before a command that is to run on the node: at the last entrance,
    or for `local` on the server's machine. `home` is the node's own home where it has one: below the login's home,
    unless it is an absolute path. `host` is the node's address as the last entrance sees it, empty for that one itself.
    `problem` says why nobody can get there, and then nothing else counts.
    """

    rank: int
    kind: str
    entrances: list[EntranceRecord] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    home: str = ""
    host: str = ""
    problem: str = ""


class ClusterNodes(Record):
    """A cluster whose nodes can be reached, by rank."""

    name: str
    cluster_hash: str
    nodes: list[NodeRecord]
