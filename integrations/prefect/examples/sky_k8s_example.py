"""One task on a Kubernetes cluster: `python sky_k8s_example.py`. Machines of Kubernetes come with a later version."""

from prefect import flow

from sky_train_flow import sky_gpu_workflow

TASK = """
name: k8s-training
resources:
  infra: kubernetes
  accelerators: A100:1
setup: pip install torch
run: python -c 'import torch; print(torch.cuda.get_device_name())'
"""


@flow
def kubernetes_workflow() -> str:
    return sky_gpu_workflow(task_yaml=TASK)


if __name__ == "__main__":
    kubernetes_workflow()
