"""The pipeline of the README compiles, and kfp reads it back."""

import re
from pathlib import Path
from typing import Any

import pytest
from kfp import components

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


def test_the_pipeline_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {"__name__": "readme"}
    exec(compile(BLOCKS[0], "README.md", "exec"), space)
    read = components.load_component_from_file(str(tmp_path / "training.yaml"))
    assert set(read.component_spec.inputs) == {"data"}


def test_the_other_blocks_are_python() -> None:
    for text in BLOCKS[1:]:
        compile(text, "README.md", "exec")
    assert len(BLOCKS) == 3
