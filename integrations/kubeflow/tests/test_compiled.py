"""Compiled pipelines: what kfp's own reader makes of them, and that they do not change by themselves."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from kfp import compiler, components, dsl

from kfp_sky import make_sky_task, sky_down, sky_task


def compiled(pipeline: Any, path: Path) -> str:
    compiler.Compiler().compile(pipeline, str(path))
    return path.read_text()


def test_a_compiled_pipeline_is_read_back_and_stable(tmp_path: Path) -> None:
    @dsl.pipeline(name="trains")
    def trains(data: str = "s3://bucket/data"):
        with dsl.ExitHandler(sky_down(cluster_name="trains")):
            ran = sky_task(task={"run": "python train.py", "resources": {"accelerators": "A100:1"}}, env={"DATA": data})
            ran.set_retry(num_retries=2)
            ran.set_caching_options(enable_caching=False)

    first = compiled(trains, tmp_path / "first.yaml")
    assert first == compiled(trains, tmp_path / "second.yaml")
    read = components.load_component_from_file(str(tmp_path / "first.yaml"))
    assert set(read.pipeline_spec.components) >= {"comp-sky-task", "comp-sky-down"}
    assert set(read.component_spec.inputs) == {"data"}
    executors = read.pipeline_spec.deployment_spec["executors"]
    assert "kfp-sky" in str(executors)
    assert "maxRetryCount: 2" in first


def test_a_component_by_itself_says_what_it_takes_and_gives(tmp_path: Path) -> None:
    compiler.Compiler().compile(sky_task, str(tmp_path / "task.yaml"))
    read = components.load_component_from_file(str(tmp_path / "task.yaml"))
    assert set(read.component_spec.inputs) == {"task", "env", "cluster_name", "managed", "secret_variables", "endpoint"}
    assert {"status", "cluster", "job_id", "infra", "cost_usd", "seconds", "log"} == set(read.component_spec.outputs)
    assert read.component_spec.description.startswith("Run a Sky task to its end")


def test_another_image(tmp_path: Path) -> None:
    mine = make_sky_task(base_image="registry.example.org/sky:1", packages_to_install=[])
    compiler.Compiler().compile(mine, str(tmp_path / "task.yaml"))
    text = (tmp_path / "task.yaml").read_text()
    assert "registry.example.org/sky:1" in text
    assert "'kfp-sky'" not in text


def test_the_part_for_pods_loads_neither_kfp_nor_the_client() -> None:
    code = "import kfp_sky.step, sys; print([each for each in ('sky', 'kfp') if each in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
