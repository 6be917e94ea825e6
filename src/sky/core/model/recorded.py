"""Tasks that are on record, read again: the engine does so at each step of each job, and arrays of jobs have the same.

What is remembered is the reading of a config, by its content; a `TaskSpec` is frozen, so all who ask share one.
"""

import json
from collections.abc import Mapping

from sky.core.model.tasks import TaskSpec

#: Tasks that are remembered; those of a running array of jobs are a few.
_MOST = 500

_known: dict[str, TaskSpec] = {}


def recorded_task(config: Mapping[str, object]) -> TaskSpec:
    """What `TaskSpec.from_config` makes of a config, at a fraction of its cost where that was made before."""
    try:
        key = json.dumps(config)
    except (TypeError, ValueError):
        return TaskSpec.from_config(config)
    known = _known.get(key)
    if known is None:
        known = _known[key] = TaskSpec.from_config(config)
        if len(_known) > _MOST:
            _known.pop(next(iter(_known)), None)
    return known
