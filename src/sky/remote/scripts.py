"""What runs on a node before there is an agent: for any POSIX shell, and any Python from 3.8 on.

Sent by `ssh.py` and `slurm.py`.
"""

from __future__ import annotations

import shlex

from .starting import RUNNER

SCRIPT_END = "#=end"
#: The agent's socket must fit into a name that the kernel takes, with room for the relay's own.
LONGEST_SOCKET = 99

#: Takes a script from its input, up to the line `SCRIPT_END`, and becomes it: one line itself, and the rest of the
#: input is the script's. `read` takes byte by byte, so that nothing of that is lost.
LOADER = (
    'nl=$(printf "\\nx"); nl=${nl%x}; s=; '
    f'while IFS= read -r l && [ "$l" != "{SCRIPT_END}" ]; do s="$s$l$nl"; done; eval "$s"'
)

# $1 a mark, $2 the node's folder below the home, $3 a job of Slurm, whose keeper has a folder for sockets in $4; or
# nothing.
# One line: mark, the login's home, the node's, uid, Python, machine, libc, the agent's socket (in a short folder where
# the home's name is long), whether it is there, and what is wrong. Only a Python with all that the agent needs counts:
# some systems bring one without a library.
FACTS = r"""
set -u
home=${HOME:-}
[ -n "$home" ] && [ -d "$home" ] || home=$(cd ~ 2>/dev/null && pwd)
login=$home problem=
case $2 in "") ;; /*) home=$2;; *) home="$home/$2";; esac
if [ -z "$login" ]; then problem="the login has no home"; fi
uid=$(id -u)
python=
check='
import os, sys
try:
    lib = os.path.dirname(os.__file__)
    ok = sys.version_info >= (3, 8) and os.path.isdir(lib + "/asyncio") and os.path.isdir(lib + "/sqlite3")
except Exception:
    ok = False
sys.exit(0 if ok else 1)'
for name in "$login/.sky/python/bin/python3" python3 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 \
    python3.14 python /usr/bin/python3 /usr/local/bin/python3 /opt/conda/bin/python3 "$login/miniconda3/bin/python3" \
    "$login/.local/bin/python3" /usr/libexec/platform-python; do
  path=$(command -v "$name" 2>/dev/null) || continue
  case $path in /*) ;; *) continue;; esac
  if "$path" -I -S -c "$check" </dev/null >/dev/null 2>&1; then python=$path; break; fi
done
machine="$(uname -s) $(uname -m)"
libc=
if [ -z "$python" ]; then
  libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || libc=$(ldd --version 2>&1 | head -n 1)
fi
socket="$home/.sky/agent/agent.sock"
if [ -n "$3" ]; then
  socket="$4/.sky-$uid-job-$3/agent.sock"
elif [ "$(printf %s "$socket" | wc -c)" -gt @LONGEST@ ]; then
  sum=$(printf '%s' "$home" | cksum)
  short="/tmp/.sky-$uid-${sum%% *}"
  mkdir -m 700 "$short" 2>/dev/null
  if [ -L "$short" ] || [ ! -O "$short" ]; then problem="$short belongs to somebody else"; fi
  socket="$short/agent.sock"
fi
listens=
if [ -S "$socket" ]; then listens=yes; fi
printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' \
  "$1" "$login" "$home" "$uid" "$python" "$machine" "$libc" "$socket" "$listens" "$problem"
""".replace("@LONGEST@", str(LONGEST_SOCKET))

# After `FACTS`: on the input what `starting.Order` has for a node, which tells how it went in a line of its own.
START = (
    FACTS
    + rf"""
if [ -z "$python" ] || [ -n "$problem" ]; then cat >/dev/null; exit 0; fi
exec "$python" -I -S -c {shlex.quote(RUNNER)} "$1" "$python" "$home" "$socket"
"""
)

#: The file beside a Python that is sent, for `RUNNER`.
ORDER_FILE = "sky-order"

# $1 where to, $2 a mark, $3 the node's home, $4 its socket; on the input a gzipped tar of a Python and the order, for
# which see `START`. Another node of the same login may do the same at the same time.
BRING_AND_START = rf"""
set -eu
mask=$(umask)
umask 022
to="$1"
new="$to.new.$$"
trap 'rm -rf "$new"' EXIT
mkdir -p "$new"
command -v tar >/dev/null || {{ echo "the node has no tar" >&2; exit 1; }}
gzip -dc | tar -xf - -C "$new"
exec 3<"$new/{ORDER_FILE}"
rm -f "$new/{ORDER_FILE}"
from="$new"
[ -x "$from/bin/python3" ] || from="$new/python"
"$from/bin/python3" -I -S -c 'import sys, asyncio, sqlite3; sys.exit(sys.version_info < (3, 8))'
if [ ! -x "$to/bin/python3" ]; then
  rm -rf "$to"
  mv "$from" "$to"
fi
rm -rf "$new"
trap - EXIT
umask "$mask"
exec "$to/bin/python3" -I -S -c {shlex.quote(RUNNER)} "$2" "$to/bin/python3" "$3" "$4" <&3 3<&-
"""

#: Where the SSH server forwards no sockets: between the command's own input and output and the agent's socket (the
#: first argument). It begins with a mark (the second), before which a login may have had something to say.
_RELAY = (
    "import os,socket,sys,threading\n"
    "s=socket.socket(socket.AF_UNIX)\n"
    "try: s.connect(sys.argv[1])\n"
    "except OSError as e: sys.exit(str(e))\n"
    "os.write(1,sys.argv[2].encode())\n"
    "def up():\n"
    "    while True:\n"
    "        d=os.read(0,1<<18)\n"
    "        if not d: break\n"
    "        s.sendall(d)\n"
    "    s.shutdown(socket.SHUT_WR)\n"
    "threading.Thread(target=up,daemon=True).start()\n"
    "while True:\n"
    "    d=s.recv(1<<18)\n"
    "    if not d: break\n"
    "    while d: d=d[os.write(1,d):]\n"
)

#: As one line, for shells that want no more of an argument.
RELAY = f"exec({_RELAY!r})"
