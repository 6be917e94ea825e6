"""Components of Kubeflow Pipelines that run tasks on any place with compute: `sky_task`, `sky_down`.

Names are loaded on first use: in a pod, where `kfp_sky.step` runs, the part of kfp that writes pipelines is not needed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kfp_sky.components import make_sky_down, make_sky_task, sky_down, sky_task

__all__ = ["make_sky_down", "make_sky_task", "sky_down", "sky_task"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module("kfp_sky.components"), name)
    return globals()[name]
