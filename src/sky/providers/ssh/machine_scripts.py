"""What is run on a machine of a pool: small scripts for any POSIX sh, on machines where nothing of ours is installed.

`inventory.py` and `slots.py` send them. Arguments come as `$1…`, never inside of the text. A node is a folder
`~/.sky/nodes/<id>`: its home, with `owner.json` in it, which says whose it is and what it holds of the machine.
"""

#: Prints `key value` lines: what the machine is and has, then the owner files of all nodes on it, one per line.
LOOK = r"""
export LC_ALL=C
echo "cpus $(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)"
echo "memory_kb $(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)"
echo "arch $(uname -m)"
echo "system $(uname -s)"
echo "host $(uname -n)"
set -- $SSH_CONNECTION
echo "ip $3"
for python in python3 python; do
  if command -v $python >/dev/null 2>&1; then
    echo "python $($python -c 'import sys; print(sys.executable, sys.version.split()[0])' 2>/dev/null)"
    break
  fi
done
if command -v nvidia-smi >/dev/null 2>&1; then
  timeout 20 nvidia-smi --query-gpu=index,memory.total,name --format=csv,noheader,nounits 2>/dev/null |
    sed 's/^/gpu /'
fi
for owner in "$HOME"/.sky/nodes/*/owner.json; do
  [ -f "$owner" ] && printf 'owner ' && head -c 4000 "$owner" | tr -d '\n' && echo
done
exit 0
"""

# $1 node, $2 its owner file without the last brace. Prints the owner files of all nodes on the machine, oldest first,
# as they stand once all that was begun at the same time is seen. The machine is told by its name, since several may
# share a home.
CLAIM = r"""
umask 077
folder="$HOME/.sky/nodes/$1"
mkdir -p "$folder" || exit 1
if [ ! -f "$folder/owner.json" ]; then
  printf '%s, "host": "%s"}' "$2" "$(uname -n)" >"$folder/.new" && mv "$folder/.new" "$folder/owner.json" || exit 1
  sleep 0.05 2>/dev/null || sleep 1
fi
cd "$HOME/.sky/nodes" || exit 1
echo "host $(uname -n)"
set -- $SSH_CONNECTION
echo "ip $3"
ls -1tr -- */owner.json 2>/dev/null | while read -r owner; do
  printf 'owner ' && head -c 4000 "$owner" | tr -d '\n' && echo
done
exit 0
"""

# For each node in $@: whether its folder is there, and whether it has ended itself. One line each.
STATE = r"""
for node in "$@"; do
  folder="$HOME/.sky/nodes/$node"
  if [ ! -f "$folder/owner.json" ]; then echo "$node gone"
  elif [ -f "$folder/.sky/agent/stopped.json" ]; then echo "$node ended"
  else echo "$node there"
  fi
done
"""

# $1 node. Ends all processes that carry its mark, and removes its folder. Processes of a node carry SKY_NODE_ID in
# their environment, whatever sessions they moved to; those that fork while they are ended are met in the next round.
# Own descendants (this script) do not carry it.
END = r"""
mark="SKY_NODE_ID=$1"
found() {
  if ! grep -lzxF -- "$mark" /proc/[0-9]*/environ 2>/dev/null | sed 's/[^0-9]//g'; then :; fi
}
# grep without -z (old busybox): each process by itself.
if ! printf 'a\0b\0' | grep -qzxF b 2>/dev/null; then
  found() {
    for environ in /proc/[0-9]*/environ; do
      if tr '\0' '\n' <"$environ" 2>/dev/null | grep -qxF -- "$mark"; then echo "$environ" | sed 's/[^0-9]//g'; fi
    done
  }
fi
rounds=0
while pids=$(found) && [ -n "$pids" ]; do
  living=
  for pid in $pids; do
    case $(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null) in ''|Z|X) ;; *) living=1;; esac
    kill -9 "$pid" 2>/dev/null
  done
  [ -n "$living" ] || break
  rounds=$((rounds + 1))
  if [ $rounds -gt 100 ]; then echo "processes of the node cannot be ended: $pids" >&2; exit 1; fi
  sleep 0.02 2>/dev/null || sleep 1
done
folder="$HOME/.sky/nodes/$1"
case $1 in ''|*/*|.*) exit 1;; esac
# Containers of the node are no processes of its own: an agent that died could not end them, and they hold its GPUs.
for engine in docker podman 'sudo -n docker' 'sudo -n podman'; do
  command -v "${engine##* }" >/dev/null 2>&1 || continue
  boxes=$($engine ps -aq --filter "label=sky.node=$1" 2>/dev/null </dev/null) && [ -n "$boxes" ] || continue
  $engine rm -f $boxes >/dev/null 2>&1 </dev/null
done
if [ -e "$folder" ]; then
  # Write-protected folders are common: caches of modules are.
  chmod -R u+rwX "$folder" 2>/dev/null
  rm -rf -- "$folder" || exit 1
fi
# Where the home's name is too long for a socket in it, the agent has a folder of that name's checksum.
set -- $(printf '%s' "$folder" | cksum)
rm -rf -- "/tmp/.sky-$(id -u)-$1"
rmdir "$HOME/.sky/nodes" 2>/dev/null
exit 0
"""
