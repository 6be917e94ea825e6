"""What people, files, nodes and the web hand over, made up for as long as one likes: the tests of what reads it, round
after round, each from a seed of its own.

    python benchmarks/hostile_input.py [--minutes N] [--seed N] [--most N]

Prints each round that fails as a JSON line with the command that repeats it, then a summary; ends with code 1 if there
was any. `examples` counts what the statistics of hypothesis tell; price lists are read some thousand times besides.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Every reader of what others wrote whose tests make their input up.
FILES = (
    "wire/test_dotenv.py", "wire/test_packs.py", "wire/test_yaml_fuzz.py", "core/test_tasks.py",
    "core/test_resources.py", "core/test_quantities.py", "core/test_catalog_accelerators.py", "agent/test_frames.py",
    "server/test_attacks.py", "providers/test_prices_hostile.py",
)  # fmt: skip
#: Seconds for one round, which takes one or two minutes.
ROUND_S = 1200


def main(words: list[str] | None = None) -> int:
    """Rounds until the time is up; one at least."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None, help="of the first round; drawn if it is not said")
    parser.add_argument("--most", type=int, default=len(FILES), help="so many of the files")
    asked = parser.parse_args(words)
    first = random.randrange(1 << 30) if asked.seed is None else asked.seed
    files = [f"tests/{each}" for each in FILES[: asked.most]]
    begun, rounds, examples, failed = time.monotonic(), 0, 0, 0
    while rounds == 0 or time.monotonic() - begun < asked.minutes * 60:
        options = ["-q", "-n0", "-p", "no:cacheprovider", f"--hypothesis-seed={first + rounds}"]
        command = [sys.executable, "-m", "pytest", *options, "--hypothesis-show-statistics", *files]
        done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=ROUND_S)
        examples += sum(int(count) for count in re.findall(r"(\d+) passing, \d+ failing", done.stdout))
        rounds += 1
        if done.returncode != 0:
            failed += 1
            print(json.dumps({"failure": shlex.join(command), "said": done.stdout[-6000:]}), flush=True)
    minutes = round((time.monotonic() - begun) / 60, 1)
    print(json.dumps({"seed": first, "rounds": rounds, "examples": examples, "minutes": minutes, "failures": failed}))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
