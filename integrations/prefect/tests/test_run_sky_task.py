"""`run_sky_task` in real flow runs: success, failure, retries, paths, repositories, kept clusters, secrets."""

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import sky
from prefect import flow, task

from sky_train_flow import SkyTaskError, run_sky_task


def last_run(house: Any, flow_name: str) -> Any:
    return max(house.flow_runs(flow_name), key=lambda run: run.created)


def test_a_task_runs_is_logged_in_the_run_and_leaves_an_artifact_and_no_cluster(house: Any, folder: Path) -> None:
    @flow(name="plain")
    def plain() -> str:
        return run_sky_task(base_path=str(folder), yaml_path="ok.yaml", envs_override={"WHO": 7})

    cluster = plain()
    assert cluster.startswith("ok-")
    run = last_run(house, "plain")
    assert run.state.is_completed()
    until_logged(house, run.id, "hello 7")
    (artifact,) = house.artifacts(run.id, "sky-ok")
    assert "SUCCEEDED" in artifact and f"`{cluster}`, gone" in artifact and "| Infra | local |" in artifact
    assert "| Cost | 0.0000 USD |" in artifact


def until_logged(house: Any, run_id: Any, text: str) -> str:
    from household import until

    until(lambda: text in house.log(run_id))
    return str(house.log(run_id))


def test_a_failed_job_is_tried_again_and_fails_the_flow_and_no_cluster_is_left(house: Any, folder: Path) -> None:
    marks = folder / "marks"

    @flow(name="failing")
    def failing() -> None:
        run_sky_task.with_options(retries=1, retry_delay_seconds=0)(
            base_path=str(folder), yaml_path="fails.yaml", envs_override={"MARKS": marks}
        )

    with pytest.raises(SkyTaskError, match=r"(?s)ended FAILED.*about to fail") as failed:
        failing()
    assert failed.value.status == "FAILED" and failed.value.job_id == 1
    assert marks.read_text() == "x\nx\n"
    run = last_run(house, "failing")
    assert run.state.is_failed()
    first, second = house.artifacts(run.id, "sky-fails")
    assert "| Status | FAILED |" in first and "| Status | FAILED |" in second


def test_a_failed_setup_fails_the_flow_and_leaves_no_cluster(house: Any, folder: Path) -> None:
    (folder / "setup.yaml").write_text("name: s\nresources: {infra: local}\nsetup: exit 9\nrun: echo never\n")

    @flow(name="bad-setup")
    def bad_setup() -> None:
        run_sky_task.with_options(retries=0)(base_path=str(folder), yaml_path="setup.yaml")

    with pytest.raises(SkyTaskError, match="FAILED_SETUP"):
        bad_setup()


def test_the_defaults_are_those_of_the_guide() -> None:
    assert (run_sky_task.retries, run_sky_task.retry_delay_seconds) == (2, 30)
    other = run_sky_task.with_options(retries=5, retry_delay_seconds=60)
    assert (other.retries, other.retry_delay_seconds) == (5, 60)


@pytest.mark.parametrize("yaml_path", ["typo.yaml", "missing.yaml"])
def test_what_no_repetition_mends_is_not_tried_again(house: Any, folder: Path, yaml_path: str) -> None:
    @flow(name=f"wrong-{yaml_path}")
    def wrong() -> None:
        run_sky_task(base_path=str(folder), yaml_path=yaml_path)

    began = time.monotonic()
    with pytest.raises((ValueError, FileNotFoundError)):
        wrong()
    assert time.monotonic() - began < 25, "it was tried again after 30 s"


def test_side_by_side_each_task_sees_the_files_of_its_own_base_path(house: Any, tmp_path: Path) -> None:
    here = Path.cwd()
    bases = []
    for number in range(4):
        base = tmp_path / f"base{number}"
        (base / "code").mkdir(parents=True)
        (base / "code" / "which").write_text(f"workdir {number}\n")
        (base / "data.txt").write_text(f"mount {number}\n")
        (base / "t.yaml").write_text(
            "name: t\nworkdir: code\nfile_mounts: {~/data.txt: ./data.txt}\nresources: {infra: local}\n"
            f"run: cat which ~/data.txt > {base}/seen\n"
        )
        bases.append(base)

    @flow(name="side-by-side")
    def side_by_side() -> list[str]:
        return [each.result() for each in [run_sky_task.submit(str(base), "t.yaml") for base in bases]]

    names = side_by_side()
    assert len(set(names)) == 4
    assert [(base / "seen").read_text() for base in bases] == [f"workdir {n}\nmount {n}\n" for n in range(4)]
    assert Path.cwd() == here


def git(*words: str, cwd: Path) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=cwd, check=True)


def test_task_files_come_from_a_branch_of_a_repository(house: Any, folder: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repo"
    repository.mkdir()
    git("init", "-q", "-b", "main", cwd=repository)
    (repository / "ok.yaml").write_text("name: g\nworkdir: .\nresources: {infra: local}\nrun: cat which\n")
    (repository / "which").write_text("from main")
    git("add", ".", cwd=repository)
    git("commit", "-qm", "one", cwd=repository)
    git("checkout", "-qb", "other", cwd=repository)
    (repository / "which").write_text("from the branch")
    git("commit", "-qam", "two", cwd=repository)
    git("checkout", "-q", "main", cwd=repository)

    @flow(name="from-git")
    def from_git(branch: str | None) -> None:
        run_sky_task.with_options(retries=0)(repository.as_uri(), "ok.yaml", git_branch=branch)

    from_git("other")
    until_logged(house, last_run(house, "from-git").id, "from the branch")
    from_git(None)
    until_logged(house, last_run(house, "from-git").id, "from main")
    with pytest.raises(RuntimeError, match="git fetch"):
        from_git("no-such-branch")


def test_a_cluster_that_is_kept_is_there_and_is_used_by_name(house: Any, folder: Path) -> None:
    @flow(name="kept")
    def kept() -> str:
        return run_sky_task.with_options(retries=0)(
            str(folder), "ok.yaml", cluster_prefix="sweep-lr0.001-bs32", down_on_completion=False
        )

    cluster = kept()
    assert cluster.startswith("sweep-lr0-001-bs32-")
    assert house.clusters() == [cluster]
    sky.get(sky.down(cluster))


def test_secrets_reach_the_job_and_nothing_that_prefect_keeps(house: Any, folder: Path) -> None:
    from prefect.blocks.system import Secret

    Secret(value="hunter2-in-a-block").save("my-api-key", overwrite=True)
    (folder / "secret.yaml").write_text(
        "name: secret\nresources: {infra: local}\nsecrets: {KEY: null, OTHER: null}\n"
        f"run: echo $KEY $OTHER > {folder}/seen\n"
    )

    @flow(name="secretive")
    def secretive() -> None:
        run_sky_task.with_options(retries=0)(
            str(folder), "secret.yaml",
            secrets_override={"KEY": Secret.load("my-api-key"), "OTHER": "hunter2-as-text"},
        )  # fmt: skip

    secretive()
    assert (folder / "seen").read_text() == "hunter2-in-a-block hunter2-as-text\n"
    run = last_run(house, "secretive")
    told = until_logged(house, run.id, "Launching")
    with house.client() as client:
        told += "".join(str(each.model_dump()) for each in client.read_artifacts())
    assert "hunter2" not in told


def test_it_works_outside_of_flows_too(house: Any, folder: Path) -> None:
    @task
    def mine() -> str:
        return run_sky_task.fn(str(folder), "ok.yaml")

    assert run_sky_task(str(folder), "ok.yaml").startswith("ok-")
    assert mine().startswith("ok-")
    assert run_sky_task.fn(str(folder), "ok.yaml").startswith("ok-")
