"""Every Python block of the README runs as it is written, but for the places that it names."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
TASK = "name: t\nresources: {infra: local}\nenvs: {EPOCHS: 1, LEARNING_RATE: 0, BATCH_SIZE: 0}\nrun: echo $EPOCHS $LEARNING_RATE $BATCH_SIZE\n"
STAGE = (
    "resources: {{infra: local}}\nenvs: {{DATA_BUCKET_NAME: null, DATA_BUCKET_STORE_TYPE: null}}\n"
    "run: |\n  mkdir -p {0}/$DATA_BUCKET_NAME; cd {0}/$DATA_BUCKET_NAME; {1}\n"
)


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """The folder and the repository that the blocks name, made here."""
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    for name in ("train", "experiment1", "experiment2", "preprocess", "train_gpu", "train_cpu"):
        (tasks / f"{name}.yaml").write_text(TASK)
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "data_preprocessing.yaml").write_text(STAGE.format(tmp_path, "echo data > data"))
    (repository / "train.yaml").write_text(
        STAGE.format(tmp_path, "cat data > model; echo model >> model").replace("null", "none")
    )
    (repository / "eval.yaml").write_text(STAGE.format(tmp_path, "cat model > report"))
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", *words], cwd=repository, check=True)
    return {
        "/path/to/tasks": str(tasks),
        "https://github.com/skypilot-org/mock-train-workflow.git": repository.as_uri(),
    }


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 12


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_runs(house: Any, places: dict[str, str], number: int, tmp_path: Path) -> None:
    text = BLOCKS[number]
    for named, here in places.items():
        text = text.replace(named, here)
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, f"README.md, block {number + 1}", "exec"), space)
    if "sky_train_workflow(" in text:
        (report,) = tmp_path.glob("sky-data-*/report")
        assert report.read_text() == "data\nmodel\n"
