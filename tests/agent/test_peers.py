"""Agents on machines of their own talk to each other over TLS, through cuts, and to nobody else."""

from __future__ import annotations

import asyncio
import os
import ssl
import time


async def test_a_gang_runs_on_two_machines_and_ends_as_one(lab, start_machines):
    hosts = lab.create(2)
    cluster = await start_machines(hosts)
    job_id = await cluster.submit("hostname; echo $SKYPILOT_NODE_RANK of $SKYPILOT_NUM_NODES", num_nodes=2)
    status, log = await cluster.result(job_id)
    assert status == "SUCCEEDED", log
    assert "0 of 2" in log and "1 of 2" in log and all(host.name in log for host in hosts)
