#!/usr/bin/env bash
# Installs the Debian packages that the test beds take, those that are missing only. Needs root.
set -euo pipefail
wanted=(
  iproute2 util-linux nftables openssh-server openssh-client sudo iputils-ping procps rsync git
  slurmctld slurmd slurm-client munge
  docker.io podman runc iptables
  postgresql pgbouncer
)
absent=()
for package in "${wanted[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || absent+=("$package")
done
[ ${#absent[@]} -eq 0 ] && exit 0
export DEBIAN_FRONTEND=noninteractive
# The services themselves are not wanted: each test starts its own, elsewhere.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${absent[@]}"
