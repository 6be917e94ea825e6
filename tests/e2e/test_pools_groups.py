"""A job group on machines of the user's: its members find each other by their names."""

import json

import pytest

pytestmark = pytest.mark.e2e

GROUP = """
name: talk
execution: parallel
primary_tasks: [asker]
---
name: server
resources: {infra: ssh/rack, cpus: 0.5}
run: python3 -u -m http.server 18331
---
name: asker
resources: {infra: ssh/rack, cpus: 0.5}
run: |
  cat ~/.sky/hosts
  server=$(awk '$2 == "server-0.talk" {print $1}' ~/.sky/hosts)
  [ "$server" = "$SKYPILOT_JOBGROUP_NODE_IPS_SERVER" ] || exit 3
  for i in $(seq 100); do
    python3 -c "import urllib.request as r; print('answered', r.urlopen('http://$server:18331/').status)" && exit 0
    sleep 0.1
  done
  exit 4
"""


def test_members_on_several_machines_find_each_other(sky, lab):
    machines = lab.create(2)
    hosts = [{"ip": each.ip, "user": each.user, "identity_file": each.key} for each in machines]
    (sky.root / ".sky").mkdir(exist_ok=True)
    (sky.root / ".sky" / "ssh_node_pools.yaml").write_text(json.dumps({"rack": {"hosts": hosts}}))
    (sky.root / "t.yaml").write_text(GROUP)
    ran = sky("jobs", "launch", "-y", "t.yaml")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    addresses = {each.ip for each in machines}
    told = [line.split() for line in ran.stdout.splitlines() if "server-0.talk server.talk" in line]
    assert any(word in addresses for line in told for word in line)
    assert "answered 200\n" in ran.stdout
    assert "job group" not in machines[0].exec("cat", "/etc/hosts").stdout, "a shared machine's own file stays as it is"
