"""A flow for nodes that reach the datastore and nothing else."""

import os
from pathlib import Path

from metaflow import FlowSpec, environment, sky, step


class Far(FlowSpec):
    """A step whose node shares nothing with this process but the datastore."""

    @environment(vars={"METAFLOW_SKIP_INSTALL_DEPENDENCIES": "1", "FAR_FAILS": os.environ.get("FAR_FAILS", "")})
    @sky(
        infra="local",
        python=os.environ.get("PYTHON_OF_TESTS"),
        secrets=["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"],
    )
    @step
    def start(self):
        if os.environ["FAR_FAILS"]:
            raise RuntimeError("the disk is full")
        self.folder = str(Path.cwd())
        self.code = __file__
        self.next(self.end)

    @step
    def end(self):
        print("made in", self.folder)
        assert self.folder != str(Path.cwd())
        assert self.code != __file__


if __name__ == "__main__":
    Far()
