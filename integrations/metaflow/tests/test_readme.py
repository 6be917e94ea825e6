"""The flow of the README runs, with another place to run at."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


def test_the_flow_runs(house: Any) -> None:
    (text,) = BLOCKS
    asked = '@sky(accelerators="A100:1", use_spot=True)\n    @resources(cpu=8, memory=32000)'
    assert asked in text
    (house.home / "training.py").write_text(
        text.replace(asked, '@sky(infra="local")\n    @resources(cpu=1, memory=100)')
    )
    words = [sys.executable, "training.py", "--no-pylint", "run"]
    ran = subprocess.run(words, cwd=house.home, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert house.latest("Training").data.best == 0.02
