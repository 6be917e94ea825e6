"""A working directory from git: checked out on a node, by the node's own git. Called by `server.fleet`.

A login goes by the environment alone: it is in no list of processes, in no file of the node, and not in the
configuration of the checkout, where the address stands without it.
"""

from __future__ import annotations

import shlex
import urllib.parse
from collections.abc import Mapping
from typing import NamedTuple

from .agent_client import AgentClient
from .errors import AgentRefused

_CLONE_S = 600.0
_SAID = 1000
#: Who a token says it is where nothing else is said: the places that issue tokens take it for any name, or for this.
_TOKENS_NAME = "x-access-token"

# The first lines are for a login: git asks a program for it, and that one has it from its environment.
_SCRIPT = r"""set -e
dir="$HOME/sky_workdir"
g() {{ git -C "$dir" "$@"; }}
export GIT_TERMINAL_PROMPT=0
if [ -n "${{CHECKOUT_PASSWORD+given}}" ]; then
  mkdir -p "$HOME/.sky"
  own=$(mktemp -d "$HOME/.sky/git.XXXXXX")
  trap 'rm -rf "$own"' EXIT
  cat >"$own/ask" <<'SKY-ASK-ENDS'
#!/bin/sh
case $1 in Username*) printf '%s\n' "$CHECKOUT_USER";; *) printf '%s\n' "$CHECKOUT_PASSWORD";; esac
SKY-ASK-ENDS
  chmod 700 "$own/ask"
  export GIT_ASKPASS="$own/ask"
  # What it was told is not kept by whoever keeps logins on this node.
  g() {{ git -c credential.helper= -C "$dir" "$@"; }}
fi
if [ ! -d "$dir/.git" ]; then mkdir -p "$dir"; git -C "$dir" init -q; git -C "$dir" remote add origin {url}; fi
git -C "$dir" remote set-url origin {url}
if g fetch -q --depth 1 origin {ref}; then
  g checkout -q -f FETCH_HEAD
else
  # A commit may not be had by its number alone. FETCH_HEAD is another one now: what was asked for, or nothing.
  g fetch -q origin
  g checkout -q -f {ref} --
fi
git -C "$dir" rev-parse HEAD
"""


class Address(NamedTuple):
    """Of a repository: the URL without a login, and that; `password` is None where there is none."""

    url: str
    user: str = ""
    password: str | None = None


def address_of(url: str, token: str | None = None) -> Address:
    """Take a URL apart. A `token` counts on the web only, and where the URL brings no login of its own."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return Address(url)
    login, at, host = parts.netloc.rpartition("@")
    if not at:
        return Address(url, _TOKENS_NAME, token) if token else Address(url)
    user, _, password = login.partition(":")
    clean = urllib.parse.urlunsplit(parts._replace(netloc=host))
    return Address(clean, urllib.parse.unquote(user), urllib.parse.unquote(password))


async def check_out(client: AgentClient, url: str, ref: str | None, env: Mapping[str, str], *, where: str) -> str:
    """Have a node check a repository out as its working directory, anew or over an earlier checkout; the commit.

    `env` are the task's variables, of which those of git count, `GIT_TOKEN` among them. Raises AgentRefused with the
    node, the URL (without a login) and what git said.
    """
    given = {name: value for name, value in env.items() if name.startswith("GIT_")}
    address = address_of(url, given.pop("GIT_TOKEN", None))
    if address.password is not None:
        given |= {"CHECKOUT_USER": address.user, "CHECKOUT_PASSWORD": address.password}
    script = _SCRIPT.format(url=shlex.quote(address.url), ref=shlex.quote(ref or "HEAD"))
    rc, output = await client.run(script, timeout=_CLONE_S, env=given)
    said = output.decode(errors="replace").replace(url, address.url)
    if address.password:
        said = said.replace(address.password, "...")
    if rc != 0:
        why = said.strip()[-_SAID:] or f"exit code {rc}"
        raise AgentRefused(f"git could not check out {address.url} on {where}: {why}")
    return said.strip().splitlines()[-1]
