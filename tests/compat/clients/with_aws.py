"""Runs a command beside AWS on the wire, whose instances are test hosts: `python with_aws.py COMMAND…`.

For clients that know clouds only, and not this machine. Needs root and what `tests/testbed/README.md` names; says so
and exits with 77 where that is not there.
"""

import json
import os
import subprocess
import sys
import tempfile
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

HERE = Path(__file__).resolve()
TESTS = HERE.parents[2]
#: A type whose price is known, so that nothing is asked of the world outside.
OFFERS = """
[[offer]]
infra = "aws/us-east-1/us-east-1a"
instance_type = "m5.xlarge"
cpus = 4
memory = 16
price = 0.192
"""


def main() -> int:
    """The exit code of the command."""
    loader = SourceFileLoader("testbed_beds", str(TESTS / "testbed" / "beds.py"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    beds = module_from_spec(spec)
    sys.modules[loader.name] = beds
    loader.exec_module(beds)
    why = beds.missing()
    if why:
        print(f"not run: {why}")
        return 77
    settings = Path.home() / ".sky"
    (settings / "catalog.d").mkdir(parents=True, exist_ok=True)
    (settings / "catalog.d" / "offers.toml").write_text(OFFERS)
    (settings / "config.yaml").write_text(json.dumps({"catalog": {"refresh": False}}))
    with tempfile.TemporaryDirectory() as folder:
        aws = beds.Aws(Path(folder))
        try:
            code = subprocess.run(sys.argv[1:], env={**os.environ, **aws.environment}).returncode
            left = [host["name"] for host in aws.hosts()]
            print("machines left:", left)
            return code or bool(left)
        finally:
            aws.close()


sys.exit(main())
