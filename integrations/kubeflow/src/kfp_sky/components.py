"""The components, and how to have them with another image."""

from typing import Any

from kfp import dsl

from kfp_sky import functions

#: What a pod installs unless told otherwise.
PACKAGES = ("kfp-sky",)


def make_sky_task(**options: Any) -> Any:
    """`sky_task` with another image, other packages or indexes.

    options: those of `dsl.component`, such as `base_image`, `packages_to_install`, `pip_index_urls`. With an image that
    has `kfp-sky` installed, give `packages_to_install=[]`.
    """
    return _component(functions.sky_task, options)


def make_sky_down(**options: Any) -> Any:
    """`sky_down` with another image, other packages or indexes; see `make_sky_task`."""
    return _component(functions.sky_down, options)


def _component(function: Any, options: dict[str, Any]) -> Any:
    return dsl.component(function, **{"base_image": "python:3.12", "packages_to_install": list(PACKAGES), **options})


sky_task = make_sky_task()
sky_down = make_sky_down()
