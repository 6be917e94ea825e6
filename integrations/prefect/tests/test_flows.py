"""The ready-made flows beyond what the README shows: failures side by side, GPUs by default, inline texts."""

from pathlib import Path
from typing import Any

import pytest
import sky

from prefect_sky.flows import set_gpus
from prefect_sky.sources import is_git, is_inline, read_task, texts
from sky_train_flow import SkyTaskError, run_sky_task, sky_gpu_workflow, sky_parallel_workflow


def test_all_run_to_their_end_and_one_error_names_those_that_failed(house: Any, folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(run_sky_task, "retries", 0)
    (folder / "seen.yaml").write_text(f"resources: {{infra: local}}\nrun: sleep 1; touch {folder}/seen\n")
    tasks = [
        {"base_path": str(folder), "yaml_path": name, "cluster_prefix": name.partition(".")[0]}
        for name in ("fails.yaml", "seen.yaml", "fails.yaml")
    ]
    with pytest.raises(SkyTaskError, match=r"(?s)2 of 3 tasks failed.*'fails-.*'fails-"):
        sky_parallel_workflow(tasks)
    assert (folder / "seen").exists()


INLINE = "# a comment first\nname: inline\nresources: {infra: local}\nrun: test $SKYPILOT_NUM_GPUS_PER_NODE = $WANTED\n"


@pytest.mark.parametrize(
    ("arguments", "gpus"), [({}, 1), ({"num_gpus": 4}, 4), ({"gpu_type": "H100"}, 1), ({"num_gpus": 0}, 0)]
)
def test_gpus_are_found_without_being_named(house: Any, arguments: dict[str, Any], gpus: int) -> None:
    assert sky_gpu_workflow(INLINE, envs={"WANTED": gpus}, **arguments).startswith("inline-")


def test_what_the_task_asks_for_wins_over_a_number_that_nobody_gave() -> None:
    task = read_task("resources: {accelerators: A100:8}\nrun: a", Path("/"))
    set_gpus(task, 1, None)
    assert [each.accelerators for each in task.resources] == [{"A100": 8}]
    set_gpus(task, 2, "H100")
    assert [each.accelerators for each in task.resources] == [{"H100": 2}]
    with pytest.raises(ValueError, match="0 or more"):
        set_gpus(task, -1, None)


@pytest.mark.parametrize(
    ("text", "inline"),
    [
        ("run: echo", True),
        ("# x\nrun: echo\n", True),
        ("tasks/a.yaml", False),
        ("/a/b c.yaml", False),
        ("resources:", True),
    ],
)
def test_a_text_is_told_from_a_path(text: str, inline: bool) -> None:
    assert is_inline(text) == inline


@pytest.mark.parametrize(
    ("path", "git"),
    [
        ("https://h/a.git", True), ("git@h.org:a/b", True), ("ssh://git@h/a", True), ("file:///a", True),
        ("/a/b.git", False), ("a/b", False), ("~/x", False), (".", False),
    ],
)  # fmt: skip
def test_a_repository_is_told_from_a_folder(path: str, git: bool) -> None:
    assert is_git(path) == git


def test_relative_paths_are_meant_from_the_base_and_the_rest_is_left(tmp_path: Path) -> None:
    task = read_task(
        "workdir: ${WHERE}\nenvs: {WHERE: code}\nrun: a\n"
        "file_mounts: {~/a: ./a, ~/b: ~/b, ~/c: /c, ~/d: 'https://h/d', ~/e: ../e}\n",
        tmp_path / "base",
        envs={"WHERE": "other"},
    )
    assert task.workdir == f"{tmp_path}/base/other"
    assert task.file_mounts == {
        "~/a": f"{tmp_path}/base/a", "~/b": "~/b", "~/c": "/c", "~/d": "https://h/d", "~/e": f"{tmp_path}/e",
    }  # fmt: skip


def test_values_become_texts_and_what_has_none_is_refused() -> None:
    assert texts({"A": 1, "B": 0.5, "C": Path("/x"), "D": True}, "envs") == {
        "A": "1",
        "B": "0.5",
        "C": "/x",
        "D": "True",
    }
    for wrong in (None, {}, [1]):
        with pytest.raises(ValueError, match=r"envs\['A'\] must be a text or a number"):
            texts({"A": wrong}, "envs")


def test_the_example_for_kubernetes_is_a_task_and_is_refused_in_plain_words(house: Any) -> None:
    import runpy

    told = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "sky_k8s_example.py"))
    assert [str(each.infra) for each in read_task(told["TASK"], Path("/")).resources] == ["kubernetes"]
    with pytest.raises(sky.exceptions.SkyError) as refused:
        told["kubernetes_workflow"]()
    assert "ubernetes" in str(refused.value)
