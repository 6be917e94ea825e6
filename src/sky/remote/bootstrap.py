"""Puts the agent onto a node and starts it, or finds the one that runs there already.

Called when a cluster is launched or started, and whenever the server has lost track of a node's agent. One command
does it all: it takes the configuration and the zip on its input, and leaves a small shell loop behind that starts
the agent again should it ever die.
"""

from __future__ import annotations

import asyncio
import json
from enum import Enum
from typing import Any

from sky.agent.connection import CallRefused, ConnectionLost
from sky.agent.node import checksum

from .agent_client import AgentClient
from .channel import Channel
from .errors import AgentNotStarted, PortTaken
from .package import Package, build

_LOOK_EVERY = 0.005
_SAID = 2000
_ANSWERS_WITHIN = 5.0
_HELLO_WITHIN = 2.0
#: Exit codes with which no agent comes of its own: a wrong configuration, and no Python.
_HOPELESS = (2, 126, 127)

#: The agent's word for a port that somebody else listens on; see `sky.agent.__main__`.
_PORT_TAKEN = 4
#: Seconds until a silent agent is looked into, and from one look to the next.
_DOUBT_AFTER = 0.7
# Exit codes 0, 2, 3 and 4 are the agent's own decision to end (see `sky.agent.__main__`), 126 and 127 mean that there
# is no Python to start; anything else is a death.
_RESPAWN = r"""#!/bin/sh
# Starts the agent again when it dies; ends when the agent leaves of its own accord.
deaths=0
while :; do
  since=$(date +%s)
  "$1" -I -S "$2" --node "$3" --version "$4" --patience 10
  rc=$?
  case $rc in 0|2|3|4|126|127) echo $rc >"${3%/*}/ended"; exit 0;; esac
  if [ $(( $(date +%s) - since )) -gt 10 ]; then deaths=0; else deaths=$((deaths + 1)); fi
  if [ $deaths -gt 3 ]; then sleep 2; fi
done
"""

# $1 version, $2 python, $3 what to do with an agent that is there, $4 home; on the input the configuration in one line,
# which nobody else on the node may see, and the zip. An agent that cannot be reached (its socket was deleted) or does
# not answer (it hangs, or was stopped by a signal) would hold the lock for ever: it is ended. Tasks go on without it.
_INSTALL = r"""
set -eu
HOME=$4
export HOME
unset SSH_CLIENT SSH_CONNECTION SSH_TTY SSH_AUTH_SOCK
root="$HOME/.sky/agent"
command -v "$2" >/dev/null || { echo "there is no Python at $2" >&2; exit 1; }
(
  umask 077
  mkdir -p "$root"
  new="$root/new.$$"
  IFS= read -r config
  cat >"$new" <<SKYEND
$config
SKYEND
  mv "$new" "$root/node.json"
  cat >"$new"
  mv "$new" "$root/agent-$1.pyz"
  cat >"$new" <<'SKYEND'
@RESPAWN@
SKYEND
  mv "$new" "$root/respawn.sh"
  for old in "$root"/agent-*.pyz; do [ "$old" = "$root/agent-$1.pyz" ] || rm -f "$old"; done
  rm -f "$root/stopped.json" "$root/ended"
)
if [ "$3" = end ] && [ -s "$root/lock" ]; then
  read -r pid <"$root/lock" || :
  case $pid in
    *[!0-9]*|"") ;;
    *) if [ ! -d /proc/self ] || tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$root/node.json"; then
         kill -9 "$pid" 2>/dev/null || :
       fi;;
  esac
fi
log="$root/agent.log"
if [ -f "$log" ] && [ "$(wc -c <"$log")" -gt 1000000 ]; then mv "$log" "$log.1"; fi
set -- sh "$root/respawn.sh" "$2" "$root/agent-$1.pyz" "$root/node.json" "$1"
if command -v setsid >/dev/null 2>&1; then set -- setsid "$@"; fi
"$@" </dev/null >>"$log" 2>&1 &
""".replace("@RESPAWN@", _RESPAWN.strip())


_WORDS = r"""
root="$1/.sky/agent"
cat "$root/ended" 2>/dev/null || echo
tail -n 20 "$root/agent.log"
"""


async def ensure_agent(channel: Channel, node_config: dict[str, Any], *, timeout: float = 30.0) -> AgentClient:
    """A client of the node's agent, of this version and with this configuration's node and cluster.

    An agent that fits is used as it is; another version is asked to leave first (tasks go on). AgentNotStarted when
    none answers within `timeout` seconds.
    """
    package = build()
    config = await channel.settle(node_config)
    found = await _look(channel, package, config)
    if found is not _Found.FITS:
        await _install(channel, package, config, timeout, leaving=found is _Found.LEAVING)
        await _until_up(channel, package, config, timeout)
    return AgentClient(channel.open_agent, where=channel.where)


class _Found(Enum):
    FITS = "the right agent answers"
    LEAVING = "another one answered and was sent away"
    SILENT = "none can be reached, or it does not answer"


async def _look(channel: Channel, package: Package, config: dict[str, Any]) -> _Found:
    """What is there. An agent that has to be replaced is sent away here."""
    try:
        connection = await channel.open_agent()
    except OSError:
        return _Found.SILENT
    try:
        hello, _ = await connection.call("hello", {}, timeout=_ANSWERS_WITHIN)
        if _same(hello, package, config):
            return _Found.FITS
        if hello["node_id"] != config["node_id"]:
            raise AgentNotStarted(
                f"{channel.where} is served by the agent of another node: {hello['node_id']},"
                f" wanted {config['node_id']}; end that one first"
            )
        await connection.call("shutdown", {}, timeout=_ANSWERS_WITHIN)
        return _Found.LEAVING
    except ConnectionLost:
        # Dead without having closed, or hanging: either way it does not keep what it holds.
        return _Found.SILENT
    finally:
        await connection.close()


def _same(hello: dict[str, Any], package: Package, config: dict[str, Any]) -> bool:
    wanted = (package.version, config["node_id"], checksum(config))
    return (hello["version"], hello["node_id"], hello.get("config")) == wanted


async def _install(
    channel: Channel, package: Package, config: dict[str, Any], timeout: float, *, leaving: bool
) -> None:
    given = [package.version, channel.python, "wait" if leaving else "end", str(config["home"])]
    argv = ["/bin/sh", "-c", _INSTALL, "sky-install", *given]
    # Whatever belongs to a node carries its id in the environment: so all of it can be found and ended.
    env = {"SKY_NODE_ID": str(config["node_id"])}
    try:
        done = await channel.run(
            argv, env=env, input=json.dumps(config).encode() + b"\n" + package.data, timeout=timeout
        )
    except (OSError, TimeoutError) as error:
        raise AgentNotStarted(f"cannot install the agent on {channel.where}: {error or 'it took too long'}") from error
    if done.rc != 0:
        said = (done.stderr or done.stdout).decode("utf-8", "replace")[-_SAID:].strip()
        raise AgentNotStarted(f"cannot install the agent on {channel.where}: exit code {done.rc}: {said}")


async def _until_up(channel: Channel, package: Package, config: dict[str, Any], timeout: float) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    problem, doubt_at = "no answer", began + _DOUBT_AFTER
    while loop.time() < began + timeout:
        try:
            connection = await channel.open_agent()
        except OSError as error:
            problem = str(error)
        else:
            try:
                # A short limit: right after an upgrade the old agent may still accept and then leave.
                hello, _ = await connection.call("hello", {}, timeout=_HELLO_WITHIN)
                if _same(hello, package, config):
                    return
                problem = f"an agent of version {hello['version']} still answers"
            except (ConnectionLost, CallRefused) as error:
                problem = str(error)
            finally:
                await connection.close()
        if loop.time() > doubt_at:
            rc, said = await _last_words(channel, config)
            _judge(channel, rc, said)
            doubt_at = loop.time() + _DOUBT_AFTER
        await asyncio.sleep(_LOOK_EVERY)
    _, said = await _last_words(channel, config)
    raise AgentNotStarted(
        f"the agent of {channel.where} did not come up within {timeout:g} s ({problem}). It said: {said}"
    )


def _judge(channel: Channel, rc: int | None, said: str) -> None:
    """Whether it is worth waiting: not for an agent that ended because it could not do otherwise."""
    if rc == _PORT_TAKEN:
        raise PortTaken(f"the agent of {channel.where} cannot listen for its peers. It said: {said}")
    if rc in _HOPELESS:
        raise AgentNotStarted(f"the agent of {channel.where} did not come up. It said: {said}")


async def _last_words(channel: Channel, config: dict[str, Any]) -> tuple[int | None, str]:
    """With which code the agent ended, None as long as it has not, and the end of its log."""
    try:
        done = await channel.run(["/bin/sh", "-c", _WORDS, "sky-words", str(config["home"])], timeout=10.0)
    except (OSError, TimeoutError):
        return None, "(its log could not be read)"
    rc, _, said = done.stdout.decode("utf-8", "replace").partition("\n")
    return int(rc) if rc.isdigit() and len(rc) < 4 else None, said[-_SAID:].strip() or "(nothing)"
