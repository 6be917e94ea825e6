"""What is run on a login node and inside of allocations: for any POSIX sh. Arguments come as `$1…`.

Nothing of ours is kept on a cluster but the folders `~/.sky/nodes/<node id>` of nodes that live, and on each node of an
allocation `/tmp/.sky-<uid>-job-<job id>`, which no other user can read.
"""

#: Slurm's programs are in nobody's path on some clusters, unless one logs in by hand.
_PATHS = r"""
export LC_ALL=C
PATH="$PATH:/usr/local/bin:/usr/bin:/bin:/opt/slurm/bin:/usr/local/slurm/bin:/opt/slurm/current/bin"
if ! command -v sbatch >/dev/null 2>&1 && [ -r /etc/profile ]; then . /etc/profile >/dev/null 2>&1; fi
command -v sbatch >/dev/null 2>&1 || { echo "there are no Slurm programs in the path of this login" >&2; exit 127; }
"""


def with_paths(script: str) -> str:
    """A small script with Slurm's programs in its path."""
    return _PATHS + script


#: Lines `kind|…`: the version, the partitions, and how many nodes of each shape each of them has.
LOOK = (
    _PATHS
    + r"""
echo "version|$(sinfo --version)"
scontrol -o show partition | sed 's/^/partition|/'
sinfo -h -a -o '%P|%c|%m|%G|%T|%D|%f' | sed 's/^/nodes|/' || exit 1
"""
)

# $1 our jobs' comment up to the cluster (a prefix). Lines `job|id|state|reason|nodes|partition|comment`.
JOBS = (
    _PATHS
    + r"""
squeue -h -a -t all -u "$(id -un)" -o '%i|%T|%r|%N|%P|%k' >"${TMPDIR:-/tmp}/.sky-$$" || {
  rc=$?; rm -f "${TMPDIR:-/tmp}/.sky-$$"; exit $rc; }
grep -F -- "|$1" "${TMPDIR:-/tmp}/.sky-$$" | sed 's/^/job|/'
rm -f "${TMPDIR:-/tmp}/.sky-$$"
exit 0
"""
)

# $1 a job that `squeue` has forgotten. A line `end|id|state|reason`, where Slurm keeps accounts.
LAST = (
    _PATHS
    + r"""
command -v sacct >/dev/null 2>&1 || exit 0
sacct -n -X -P -j "$1" -o JobID,State,Reason 2>/dev/null | sed 's/^/end|/'
exit 0
"""
)

# $@ options of sbatch; the job's script on the input. Prints the job's id.
SUBMIT = _PATHS + r"""exec sbatch --parsable "$@" """

# What each node of an allocation runs as long as that lasts. It starts what has to outlive the step that asked for it:
# a request is a folder with `go` and `in`, named by a line to the pipe `door`. It is ended by Slurm, and takes with it
# what it started and the node's folder, of which a home that is not shared has the only copy.
# It waits for a process of its own that reads the pipe: a signal that comes just before a shell reads is seen only once
# there is something to read, one that comes before it waits at once.
# $1 cluster id, $2 the folder for what is temporary, $3 the folder of homes
_KEEPER = r"""
umask 077
[ "$2" = /tmp ] || { mkdir -p "$2"; TMPDIR=$2; export TMPDIR; }
ours="$2/.sky-$(id -u)-job-"
dir="$ours$SLURM_JOB_ID"
# Every process that has this line in its environment: again until there is none, as one may just be starting another.
end_all() {
  tries=0
  while [ $tries -lt 50 ]; do
    left=$(grep -lzE "^$1$" /proc/[0-9]*/environ 2>/dev/null | sed "s/[^0-9]//g")
    [ -n "$left" ] || break
    for pid in $left; do kill -9 "$pid" 2>/dev/null; done
    tries=$((tries + 1)); sleep 0.1 2>/dev/null || sleep 1
  done
}
ended() {
  trap "" TERM
  [ -z "$reader" ] || kill -9 "$reader" 2>/dev/null
  end_all "SKY_NODE_ID=$1-[0-9]+"
  rm -rf "$dir"
  case $2 in /*) home=$2;; *) home="$HOME/$2";; esac
  home="$home/.sky/nodes/$1-$SLURM_NODEID"
  if [ -d "$home" ]; then chmod -R u+rwX "$home" 2>/dev/null; rm -rf -- "$home"; fi
  exit 0
}
# Before anything is made: an end may come at once.
reader=
trap 'ended "$1" "$3"' TERM INT HUP
# A keeper that was killed, or lost its power, has ended nothing of what it had started.
for old in "$ours"*; do
  [ "$old" != "$dir" ] && [ -O "$old" ] && [ ! -L "$old" ] && keeper=$(cat "$old/keeper" 2>/dev/null) || continue
  case $keeper in ""|*[!0-9]*) continue;; esac
  case ${old#"$ours"} in ""|*[!0-9]*) continue;; esac
  kill -0 "$keeper" 2>/dev/null && continue
  end_all "SLURM_JOB_ID=${old#"$ours"}"
  rm -rf "$old"
done
rm -rf "$dir"
mkdir -m 700 "$dir" || exit 1
if [ -L "$dir" ] || [ ! -O "$dir" ]; then echo "$dir belongs to somebody else" >&2; exit 1; fi
echo $$ >"$dir/keeper"
printf "%s" "${CUDA_VISIBLE_DEVICES:-}" >"$dir/devices"
mkfifo "$dir/.door" || exit 1
exec 3<>"$dir/.door"
mv "$dir/.door" "$dir/door"
serve() {
  trap - TERM INT HUP
  while :; do
    read -r name <&3 || continue
    case $name in req.*[!A-Za-z0-9.]*|"") continue;; req.*) ;; *) continue;; esac
    ( cd "$HOME" || exit; exec 3<&-
      sh "$dir/$name/go" <"$dir/$name/in" >"$dir/$name/out" 2>"$dir/$name/err"
      echo $? >"$dir/$name/end" ) &
  done
}
while :; do
  # Slurm waits a minute for whoever holds a step's output once its process is gone.
  (exec </dev/null >/dev/null 2>&1; serve) &
  reader=$!
  wait "$reader"
  sleep 1
done
"""

#: The job. It ends with its keepers, which is with Slurm's word.
BATCH = (
    """#!/bin/sh
keeper=$(cat <<'SKYEND'
"""
    + _KEEPER
    + """
SKYEND
)
# Not `exec`: the signal of an end goes to the step by Slurm itself.
srun --quiet --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \\
  --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --overlap --no-kill --kill-on-bad-exit=0 --wait=0 \\
  --input=none /bin/sh -c "$keeper" sky-keeper @CLUSTER@ "@TMP@" "@BASE@"
"""
)

# $1 job, $2 its nodes as Slurm lists them, $3 how many, $4 the folder for what is temporary. Waits until every node has
# its keeper, then one line for each node: `node|name|address|devices`.
NODES = (
    _PATHS
    + r"""
there='dir="$1/.sky-$(id -u)-job-$SLURM_JOB_ID"; tries=0
until [ -p "$dir/door" ]; do
  tries=$((tries + 1)); [ $tries -gt 300 ] && exit 1; sleep 0.1 2>/dev/null || sleep 1
done
echo "devices|$SLURMD_NODENAME|$(cat "$dir/devices")"'
srun --quiet --jobid="$1" --overlap --nodes="$3" --ntasks="$3" --ntasks-per-node=1 --cpus-per-task=1 --gres=none \
  --input=none /bin/sh -c "$there" sky-there "$4" || exit 1
for node in $(scontrol show hostnames "$2"); do
  address=$(getent ahostsv4 "$node" 2>/dev/null | sed -n '1s/ .*//p')
  [ -n "$address" ] || address=$(scontrol -o show node "$node" | sed -n 's/.* NodeAddr=\([^ ]*\).*/\1/p')
  echo "node|$node|${address:-$node}"
done
"""
)

# $1 cluster, $2 the folder of homes, $3… its jobs. First what runs on the nodes, by its mark; then the allocations;
# then the folders, where the login node shares the homes. A node that does not answer must not hold this up.
END = (
    _PATHS
    + r"""
cluster=$1; base=$2; shift 2
case $cluster in ''|*[!A-Za-z0-9_.-]*|.*) exit 1;; esac
clean='for pid in $(grep -lzE "^SKY_NODE_ID=$1-[0-9]+$" /proc/[0-9]*/environ 2>/dev/null | sed "s/[^0-9]//g"); do
  kill -9 "$pid" 2>/dev/null
done
case $2 in /*) ;; *) set -- "$1" "$HOME/$2";; esac
for folder in "$2"/.sky/nodes/"$1"-[0-9]*; do
  [ -d "$folder" ] || continue
  chmod -R u+rwX "$folder" 2>/dev/null; rm -rf -- "$folder"
done; exit 0'
for job in "$@"; do
  nodes=$(squeue -h -t RUNNING -j "$job" -o %D 2>/dev/null)
  case $nodes in
    ''|*[!0-9]*) ;;
    *) timeout 10 srun --quiet --jobid="$job" --overlap --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 \
         --cpus-per-task=1 --gres=none --input=none /bin/sh -c "$clean" sky-clean "$cluster" "$base" 2>/dev/null;;
  esac
  scancel --quiet "$job" 2>/dev/null
done
tries=0 slow=0
for job in "$@"; do
  while state=$(squeue -h -j "$job" -o %T 2>/dev/null) && [ -n "$state" ]; do
    case $state in
      PENDING|RUNNING|SUSPENDED|CONFIGURING) ;;
      # It gives its nodes back; one of them may be too far gone for that.
      COMPLETING|STAGE_OUT) slow=$((slow + 1)); [ $slow -gt 50 ] && break;;
      *) break;;
    esac
    tries=$((tries + 1))
    if [ $tries -gt 100 ]; then echo "job $job is still $state" >&2; exit 1; fi
    sleep 0.1 2>/dev/null || sleep 1
  done
done
/bin/sh -c "$clean" sky-clean "$cluster" "$base"
case $base in /*) ;; *) base="$HOME/$base";; esac
rmdir "$base/.sky/nodes" 2>/dev/null
exit 0
"""
)
