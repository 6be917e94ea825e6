"""The definitions of the README load, and the first of its jobs runs with another place to run at."""

import re
from pathlib import Path
from typing import Any

from dagster import Definitions

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


def test_the_blocks_load() -> None:
    loaded = 0
    for text in BLOCKS:
        space: dict[str, Any] = {"__name__": "readme"}
        code = compile(text, "README.md", "exec")
        if "open_dagster_pipes" in text:
            continue
        exec(code, space)
        Definitions.validate_loadable(space["defs"])
        loaded += 1
    assert loaded == 3


def test_the_first_job_runs(house: Any) -> None:
    space: dict[str, Any] = {"__name__": "readme"}
    exec(BLOCKS[0].replace('{"accelerators": "A100:1"}', '{"infra": "local"}'), space)
    assert space["defs"].get_job_def("training").execute_in_process().success
