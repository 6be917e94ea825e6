"""Dagster assets and ops on any place with compute: `SkyPipesClient`, `SkyResource`, `sky_job_op`.

Definitions are loaded in many processes that never run anything: none of them loads the `sky` client before a task is
to run.
"""

from dagster_sky.messages import SkyLogMessageReader
from dagster_sky.ops import sky_job_op
from dagster_sky.pipes import SkyPipesClient
from dagster_sky.resource import SkyResource
from dagster_sky.runs import SkyResult
from dagster_sky.tasks import TaskLike

__all__ = ["SkyLogMessageReader", "SkyPipesClient", "SkyResource", "SkyResult", "TaskLike", "sky_job_op"]
