"""The workflow of the proposal from which the plugin comes, with the return type that it left out."""

from flytekit import task, workflow

from flytekitplugins.skypilot import SkyPilot


@task(task_config=SkyPilot(cluster_name="foo"))
def t1() -> int:
    return 3 + 2


@task(task_config=SkyPilot(cluster_name="foo"))
def t2(a: int) -> int:
    return a + 3


@workflow
def wf(a: int = 3) -> int:
    t1()
    return t2(a=a)


if __name__ == "__main__":
    print("the answer is", wf(a=4))
