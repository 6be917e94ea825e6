"""The flows that the tests run; the variable METAFLOW_TEST_FLOW says which.

Variables of such names reach nodes that share our file system.
"""

import os
import time
from pathlib import Path

from metaflow import FlowSpec, Parameter, catch, current, environment, resources, retry, sky, step

MARKS = Path(os.environ.get("METAFLOW_TEST_MARKS", "/nowhere"))


class Fans(FlowSpec):
    """Steps here and there, with parameters, artifacts and a fan."""

    scale = Parameter("scale", default=10)

    @environment(vars={"WHO": "there"})
    @sky(infra="local", secrets=["KEY_OF_TESTS"], env={"PLAIN": "p"})
    @step
    def start(self):
        print("hello", os.environ["WHO"], os.environ["PLAIN"], len(os.environ["KEY_OF_TESTS"]))
        self.numbers = [1, 2]
        self.node_ips = os.environ["SKYPILOT_NODE_IPS"]
        self.next(self.each, foreach="numbers")

    @sky(infra="local")
    @step
    def each(self):
        self.product = self.input * self.scale
        self.next(self.join)

    @step
    def join(self, inputs):
        self.total = sum(one.product for one in inputs)
        self.here = "SKYPILOT_NODE_IPS" not in os.environ
        self.next(self.end)

    @step
    def end(self):
        print("total", self.total)


class Fails(FlowSpec):
    """A step that fails, until it has failed often enough."""

    @retry(times=int(os.environ.get("METAFLOW_TEST_TIMES", "0")), minutes_between_retries=0)
    @sky(infra="local", managed=os.environ.get("METAFLOW_TEST_MANAGED") == "1")
    @step
    def start(self):
        with MARKS.open("a") as marks:
            marks.write(f"{current.retry_count}\n")
        if current.retry_count < int(os.environ.get("METAFLOW_TEST_ENOUGH", "9")):
            raise RuntimeError("the disk is full")
        self.done = current.retry_count
        self.next(self.end)

    @step
    def end(self):
        pass


class Caught(FlowSpec):
    """A step whose failure is caught."""

    @catch(var="why")
    @sky(infra="local")
    @step
    def start(self):
        raise RuntimeError("the disk is full")
        self.next(self.end)

    @step
    def end(self):
        print("caught", self.why)


class Wrong(FlowSpec):
    """A step that no machine can run, however often it is tried."""

    @retry(times=2, minutes_between_retries=0)
    @sky(infra="local", resources={"acelerators": "A100"})
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


class Slow(FlowSpec):
    """A step that takes long, beside one that fails after it has begun."""

    @step
    def start(self):
        self.next(self.slow, self.breaks)

    @sky(infra="local", managed=os.environ.get("METAFLOW_TEST_MANAGED") == "1")
    @step
    def slow(self):
        MARKS.write_text("runs")
        time.sleep(300)
        self.next(self.join)

    @step
    def breaks(self):
        if os.environ.get("METAFLOW_TEST_BREAKS") == "1":
            while not MARKS.exists():
                time.sleep(0.1)
            raise RuntimeError("another step has failed")
        self.next(self.join)

    @step
    def join(self, inputs):
        self.next(self.end)

    @step
    def end(self):
        pass


class Plain(FlowSpec):
    """A flow that knows nothing of Sky."""

    @resources(cpu=1, memory=512)
    @step
    def start(self):
        self.where = os.environ.get("SKYPILOT_NODE_IPS", "here")
        self.next(self.end)

    @step
    def end(self):
        self.where_end = os.environ.get("SKYPILOT_NODE_IPS", "here")


if __name__ == "__main__":
    globals()[os.environ["METAFLOW_TEST_FLOW"]]()
