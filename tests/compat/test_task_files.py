"""Task files of the kinds that people already have: each is read, and launching it runs or says what is missing.

One server serves them all; each case brings its file, and either what its output shows or the words of the refusal.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sky import Task
from sky.sdk.dag_files import load_dag_from_yaml_str

pytestmark = [pytest.mark.e2e]

FILES = {
    "docker_image.yaml": """
        name: in-a-container
        resources:
          infra: local
          image_id: docker:python:3.11-slim
          cpus: 1+
        setup: pip list
        run: python --version
    """,
    "spot_with_recovery.yaml": """
        name: spot-training
        resources:
          infra: aws/us-east-1
          accelerators: {V100: 4}
          use_spot: true
          disk_size: 512
          job_recovery: {strategy: EAGER_NEXT_REGION, max_restarts_on_errors: 3, recover_on_exit_codes: [33, 34]}
        envs: {EPOCHS: 10, LR: 3e-4}
        run: echo $EPOCHS $LR
    """,
    "any_of.yaml": """
        resources:
          cpus: 1+
          any_of:
            - infra: aws/us-east-1
              accelerators: A100:8
            - infra: gcp
              accelerators: [L4:1, T4:2]
            - infra: k8s/my-context
            - infra: lambda
        run: nvidia-smi
    """,
    "ordered.yaml": """
        resources:
          ordered:
            - {infra: azure/eastus, accelerators: H100:8, disk_tier: best}
            - {infra: gcp/us-central1/us-central1-a, accelerators: H100:8, network_tier: best}
        num_nodes: 2
        run: torchrun --nnodes=$SKYPILOT_NUM_NODES train.py
    """,
    "anything_here.yaml": """
        # The first place cannot be used here; the second is this machine.
        resources:
          any_of:
            - {infra: aws}
            - {infra: local, cpus: 1+}
        run: echo ran on $(echo "$SKYPILOT_CLUSTER_INFO")
    """,
    "buckets.yaml": """
        resources: {infra: local}
        file_mounts:
          /data/imagenet: s3://some-bucket/imagenet
          ~/checkpoints: {name: my-checkpoints, store: gcs, mode: MOUNT}
          ~/cache: {source: gs://other-bucket, mode: MOUNT_CACHED}
        run: ls /data/imagenet
    """,
    "bucket_only.yaml": """
        resources: {infra: local}
        file_mounts: {~/model: 'hf://meta/some-model'}
        run: ls ~/model
    """,
    "service.yaml": """
        service:
          readiness_probe: {path: /v1/models, initial_delay_seconds: 1800, post_data: {model: m}, headers: {A: b}}
          replica_policy: {min_replicas: 1, max_replicas: 4, target_qps_per_replica: 2.5, upscale_delay_seconds: 60}
          load_balancing_policy: round_robin
        resources: {infra: local, ports: 8080}
        envs: {MODEL: small}
        run: python3 -m http.server 8080
    """,
    "pool.yaml": """
        pool: {workers: 3}
        resources: {infra: local}
        setup: echo ready
    """,
    "pipeline.yaml": """
        name: two-steps
        ---
        name: train
        resources: {infra: local}
        run: echo train
        ---
        name: evaluate
        resources: {infra: local}
        run: echo evaluate
    """,
    "job_group.yaml": """
        name: trainer-and-rollouts
        execution: parallel
        primary_tasks: [trainer]
        termination_delay: 30s
        ---
        name: trainer
        resources: {infra: local}
        run: echo trainer
        ---
        name: rollouts
        num_nodes: 2
        resources: {infra: local}
        run: sleep 1000
    """,
    "volumes.yaml": """
        resources: {infra: local}
        volumes:
          /mnt/data: my-volume
          ~/scratch: {size: 10Gi}
        run: df -h /mnt/data
    """,
    "kubernetes.yaml": """
        resources:
          infra: k8s/team/context-1
          accelerators: H100:1
          labels: {team: research}
          autostop: {idle_minutes: 10, down: true}
        config:
          kubernetes:
            pod_config: {spec: {priorityClassName: high}}
            provision_timeout: 900
        run: nvidia-smi
    """,
    "slurm.yaml": """
        resources: {infra: slurm/cluster-a/gpu-partition, cpus: 8, memory: 4x}
        num_nodes: 4
        run: srun hostname
    """,
    "ssh_pool.yaml": """
        resources: {infra: ssh/my-pool, accelerators: 'RTX4090:1'}
        run: hostname
    """,
    "autostop_hook.yaml": """
        resources:
          infra: local
          autostop: {idle_minutes: 5, down: true, wait_for: jobs, hook: 'aws s3 sync out s3://b', hook_timeout: 60}
        run: echo hi
    """,
    "hooks.yaml": """
        resources: {infra: local}
        config:
          hooks:
            - {run: 'echo bye', events: [stop, down], timeout: 120}
        run: echo hi
    """,
    "tpu.yaml": """
        resources:
          infra: gcp/us-central2
          accelerators: tpu-v4-8
          accelerator_args: {runtime_version: tpu-vm-v4-base, tpu_vm: true}
        run: python3 -c 'import jax'
    """,
    "old_style.yaml": """
        resources:
          cloud: aws
          region: us-west-2
          zone: us-west-2a
          instance_type: g4dn.xlarge
          ports: [8888, 6006-6010, '22']
          image_id: {us-west-2: ami-0123456789abcdef0}
        experimental:
          config_overrides: {docker: {run_options: [--shm-size=8g]}}
        run: echo old
    """,
    "everything_local.yaml": """
        name: everything.that-works_here
        num_nodes: 2
        workdir: project
        resources:
          infra: local
          cpus: 0.5+
          memory: 0.1+
          disk_size: 100
          use_spot: false
          ports: 8080
          labels: {a: b}
          autostop: 2h
          priority: 7
        envs: {WHO: you, DIR: data}
        secrets: {TOKEN: quiet-please}
        file_mounts:
          ~/mounted/${DIR}: other
          ~/one.txt: other/one.txt
        setup: |
          echo prepared > ~/prepared
        run: |
          cat ~/prepared ~/one.txt ~/mounted/data/one.txt here.txt
          echo "rank $SKYPILOT_NODE_RANK greets $WHO with ${#TOKEN} characters"
    """,
    "name_only.yaml": "name: nothing-to-run\n",
    "python_command.yaml": """
        run: |
          set -e
          python3 - <<'EOF'
          import os
          print("nodes", os.environ["SKYPILOT_NUM_NODES"])
          EOF
    """,
    "by_ratio_and_filters.yaml": """
        resources:
          infra: runpod
          accelerators: '40GB+:2'
          memory: 8x
          local_disk: nvme:500+
          max_hourly_cost: 12.5
        run: nvidia-smi
    """,
    "secret_store.yaml": """
        resources: {infra: local}
        managed_secrets: [workspace.HF_TOKEN, {personal.KEY: {mount_path: ~/key}}]
        run: echo hi
    """,
}

#: File to words of its output: these run to the end on this machine.
RUNS = {
    "anything_here.yaml": ['"cloud": "local"'],
    "autostop_hook.yaml": ["hi"],
    "everything_local.yaml": ["prepared", "one", "here", "rank 0 greets you with 12", "rank 1 greets you with 12"],
    "hooks.yaml": ["hi"],
    "name_only.yaml": [],
    "python_command.yaml": ["nodes 1"],
}

#: File to words that the refusal says: the feature, and where it is missing.
#: What takes more than this machine has as it is.
CONTAINER = "docker_image.yaml"
REFUSED = {
    "spot_with_recovery.yaml": ["aws cannot be used", "no credentials"],
    "any_of.yaml": ["aws", "gcp", "kubernetes", "lambda"],
    "ordered.yaml": ["azure", "gcp"],
    "buckets.yaml": ["object store", "not supported yet on local"],
    "bucket_only.yaml": ["hf://meta/some-model", "not supported yet on local"],
    "service.yaml": ["service", "not supported yet on local"],
    "pool.yaml": ["pool", "sky jobs pool apply"],
    "pipeline.yaml": ["holds 2 tasks", "sky jobs launch"],
    "job_group.yaml": ["holds 2 tasks", "sky jobs launch"],
    "volumes.yaml": ["volumes", "not supported yet on local"],
    "kubernetes.yaml": ["not supported yet on kubernetes"],
    "slurm.yaml": ["slurm cannot be used", "there is no Host in ~/.slurm/config"],
    "ssh_pool.yaml": ["no ~/.sky/ssh_node_pools.yaml"],
    "tpu.yaml": ["us-central2", "catalog", "gcp"],
    "old_style.yaml": ["aws cannot be used", "no credentials"],
    "by_ratio_and_filters.yaml": ["not supported yet on runpod"],
    "secret_store.yaml": ["managed_secrets", "not supported yet on local"],
}


def text_of(name):
    lines = FILES[name].splitlines()
    return "\n".join(line.removeprefix("        ") for line in lines).strip("\n") + "\n"


@pytest.fixture(scope="module")
def sky():
    # Not tmp_path: sockets below it need a short path.
    root = Path(tempfile.mkdtemp(prefix="sky-files-"))
    env = {key: value for key, value in os.environ.items() if not key.startswith(("SKY", "NO_COLOR", "XDG"))}
    env |= {"HOME": str(root), "SKY_STATE_DIR": str(root / "s")}
    for folder, file in (("project", "here.txt"), ("other", "one.txt")):
        (root / folder).mkdir()
        (root / folder / file).write_text(file.removesuffix(".txt") + "\n")
    for name in FILES:
        (root / name).write_text(text_of(name))

    def command(*words):
        return subprocess.run(
            [Path(sys.executable).with_name("sky"), *words],
            capture_output=True,
            text=True,
            env=env,
            cwd=root,
            timeout=90,
        )

    try:
        yield command
    finally:
        command("down", "-a", "-y")
        command("api", "stop")
        shutil.rmtree(root, ignore_errors=True)


def test_every_file_has_its_verdict():
    assert sorted(FILES) == sorted([*RUNS, *REFUSED, CONTAINER])


@pytest.mark.parametrize("name", sorted(FILES))
def test_it_is_read_and_read_back(name):
    dag = load_dag_from_yaml_str(text_of(name))
    assert len(dag.tasks) == max(1, text_of(name).count("\n---\n"))
    for task in dag.tasks:
        written = task.to_yaml_config()
        assert Task.from_yaml_config(written).to_yaml_config() == written


@pytest.mark.parametrize("name", sorted(RUNS))
def test_it_runs_here(sky, name):
    cluster = name.split(".")[0].replace("_", "-")
    done = sky("launch", "-y", "-c", cluster, name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [word for word in RUNS[name] if word not in done.stdout] == []
    assert "quiet-please" not in done.stdout + done.stderr


def test_a_container_needs_an_engine(sky):
    """Where there is one, `tests/agent` runs jobs in it; where there is none, the job says what is missing."""
    for engine in ("docker", "podman"):
        if shutil.which(engine) and subprocess.run([engine, "info"], capture_output=True).returncode == 0:
            pytest.skip("this machine runs containers")
    done = sky("launch", "-y", "-c", "boxed", CONTAINER)
    assert done.returncode == 100, done.stdout + done.stderr
    assert "no container engine that works" in done.stdout


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_it_is_refused_in_words_before_anything_is_made(sky, name):
    done = sky("launch", "-y", "-c", "never", name)
    assert done.returncode == 1, done.stdout + done.stderr
    assert [word for word in REFUSED[name] if word not in done.stderr] == [], done.stderr
    assert "Traceback" not in done.stderr
    assert "Job submitted" not in done.stdout
    assert "'never' not found" in sky("status", "never").stdout
