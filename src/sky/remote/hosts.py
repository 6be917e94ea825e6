"""Names of the nodes of other clusters, told to a node. Called by `server.fleet` for job groups.

The names are in `~/.sky/hosts`, in the form of `/etc/hosts`; who is root on a machine of its own has them in
`/etc/hosts` too, between two marks.
"""

from __future__ import annotations

from collections.abc import Sequence

from .agent_client import AgentClient
from .errors import AgentRefused

#: Seconds that it may take: nothing is asked of anybody else.
TELL_S = 20.0
_SAID = 500

# A file appears as a whole or not at all. What is not ours in /etc/hosts stays as it is, byte for byte; that file is
# written over and not replaced, for it may be mounted by itself.
_SCRIPT = r"""set -e
mkdir -p "$HOME/.sky"
printf '%s' "$HOSTS_LINES" >"$HOME/.sky/hosts.new"
mv -f "$HOME/.sky/hosts.new" "$HOME/.sky/hosts"
[ "$HOSTS_OWN" = 1 ] || exit 0
root=
if [ "$(id -u)" != 0 ]; then sudo -n true 2>/dev/null || exit 0; root="sudo -n"; fi
fresh=$(mktemp)
trap 'rm -f "$fresh"' EXIT
sed '/^# names of the job group begin$/,/^# names of the job group end$/d' /etc/hosts >"$fresh"
{ echo '# names of the job group begin'; printf '%s' "$HOSTS_LINES"; echo '# names of the job group end'; } >>"$fresh"
$root sh -c 'cat "$1" >/etc/hosts' sh "$fresh"
"""


async def tell(client: AgentClient, lines: Sequence[tuple[str, Sequence[str]]], *, own: bool, where: str) -> None:
    """Write addresses with their names; `own`: the machine is this node's alone.

    Raises AgentRefused with the node and the reason.
    """
    text = "".join(f"{address} {' '.join(names)}\n" for address, names in lines)
    given = {"HOSTS_LINES": text, "HOSTS_OWN": "1" if own else "0"}
    rc, output = await client.run(_SCRIPT, timeout=TELL_S, env=given)
    if rc != 0:
        said = output.decode(errors="replace").strip()[-_SAID:] or f"exit code {rc}"
        raise AgentRefused(f"{where} could not note the names of its job group: {said}")
