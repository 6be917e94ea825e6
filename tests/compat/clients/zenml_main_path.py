"""ZenML's orchestrator for machines, from its settings to the end of its job; run by `../clients.sh`.

What stands before (stack, registry, image) needs ZenML's server and Docker; what is run here is what its orchestrator
does with `sky`, by its own functions, for a class of its own that names this machine as the place.
"""

from importlib.metadata import version

from zenml.integrations.skypilot.flavors.skypilot_orchestrator_base_vm_config import SkypilotBaseOrchestratorSettings
from zenml.integrations.skypilot.orchestrators import skypilot_base_vm_orchestrator as orchestrator
from zenml.integrations.skypilot.utils import (
    prepare_launch_kwargs,
    prepare_resources_kwargs,
    prepare_task_kwargs,
    sanitize_cluster_name,
    sky_job_get,
)

import sky


def through(name: str, run: str) -> None:
    """One pipeline's job, waited for as ZenML does."""
    settings = SkypilotBaseOrchestratorSettings(
        cpus="1", disk_size=20, down=True, idle_minutes_to_autostop=30, retry_until_up=True
    )
    task = sky.Task(**prepare_task_kwargs(settings, run, "echo prepared", {"WHO": "zenml"}, name))
    wanted = prepare_resources_kwargs(cloud=sky.clouds.Local(), settings=settings, default_instance_type=None)
    task = task.set_resources(sky.Resources(**wanted))
    cluster = sanitize_cluster_name(name)
    asked = sky.status(refresh=sky.StatusRefreshMode.AUTO, cluster_names=[cluster])
    there = sky.stream_and_get(asked)
    if there:
        sky.stream_and_get(sky.start(cluster, down=True, idle_minutes_to_autostop=30, retry_until_up=True))
        request = sky.exec(task, cluster, down=True, backend=None)
    else:
        request = sky.launch(task, cluster, **prepare_launch_kwargs(settings=settings))
    result = sky_job_get(request, True, cluster)
    assert result is not None
    result.wait_for_completion()


def main() -> None:
    """A good run, a run that reuses the cluster, a bad one, and nothing left."""
    print("zenml", version("zenml"), "sky", sky.__version__)
    assert orchestrator.sky is sky
    through("Zen_Pipeline.1", "echo hello $WHO")
    through("Zen_Pipeline.1", "echo again $WHO")
    try:
        through("Zen_Pipeline.1", "exit 3")
    except Exception as failed:
        assert "failed with status 100" in str(failed), failed
    else:
        raise AssertionError("a job that failed was taken for good")
    sky.get(sky.down("zen-pipeline-1"))
    assert sky.get(sky.status()) == []
    print("main path: fine")


main()
