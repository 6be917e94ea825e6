"""Airflow tasks on any place with compute. The names below are loaded when they are asked for: DAG files name them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_sky.hooks import SkyHook
    from airflow_sky.operators import (
        SkyDownOperator,
        SkyExecOperator,
        SkyLaunchOperator,
        SkyManagedJobOperator,
    )
    from airflow_sky.sensors import SkyClusterSensor, SkyJobSensor
    from airflow_sky.triggers import SkyJobTrigger

__version__ = "0.1.0"

_HOMES = {
    "airflow_sky.hooks": ("SkyHook",),
    "airflow_sky.operators": ("SkyDownOperator", "SkyExecOperator", "SkyLaunchOperator", "SkyManagedJobOperator"),
    "airflow_sky.sensors": ("SkyClusterSensor", "SkyJobSensor"),
    "airflow_sky.triggers": ("SkyJobTrigger",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "SkyClusterSensor",
    "SkyDownOperator",
    "SkyExecOperator",
    "SkyHook",
    "SkyJobSensor",
    "SkyJobTrigger",
    "SkyLaunchOperator",
    "SkyManagedJobOperator",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'airflow_sky' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)
