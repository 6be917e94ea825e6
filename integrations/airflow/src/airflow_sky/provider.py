"""What Airflow asks a provider about itself; found through the entry point `apache_airflow_provider`."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """The provider as Airflow's schema of providers wants it told."""
    parts = {
        kind: [{"integration-name": "Sky", "python-modules": [f"airflow_sky.{kind}"]}]
        for kind in ("hooks", "operators", "sensors", "triggers")
    }
    return {
        "package-name": "airflow-provider-sky",
        "name": "Sky",
        "description": "Tasks on any place with compute: clouds, Kubernetes, Slurm, machines of one's own.",
        "integrations": [
            {
                "integration-name": "Sky",
                "external-doc-url": "https://github.com/altostratus/altostratus",
                "tags": ["service"],
            }
        ],
        **parts,
        "connection-types": [
            {"connection-type": "sky", "hook-class-name": "airflow_sky.hooks.SkyHook", "hook-name": "Sky"}
        ],
    }
