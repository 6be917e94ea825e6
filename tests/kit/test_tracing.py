"""Spans cost nothing where nobody listens, and what comes from outside is no parent unless it has the form of one."""

import pytest

from sky.kit.tracing import CURRENT, TRACING, span, traceparent_of

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Spans:
    def __init__(self, kept, name, parent):
        self.traceparent = f"00-{'1' * 32}-{len(kept) + 1:016x}-01"
        self._kept, self._told = kept, (name, parent)

    def name(self, name):
        self._told = (name, self._told[1])

    def note(self, **attributes):
        pass

    def end(self, error=None):
        self._kept.append((*self._told, type(error).__name__ if error else None))


class Kept(list):
    def begin(self, name, parent, kind, attributes):
        return Spans(self, name, parent)

    def close(self):
        pass


@pytest.fixture
def kept():
    assert TRACING.recorder is None
    TRACING.recorder = Kept()
    yield TRACING.recorder
    TRACING.recorder = None


@pytest.mark.parametrize(
    "text",
    ["", None, 3, GOOD + "x", GOOD.upper(), GOOD.replace("00-", "01-", 1), f"00-{'0' * 32}-b7ad6b7169203331-01",
     f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", GOOD + "\n"],
)  # fmt: skip
def test_what_is_no_traceparent_is_none(text):
    assert traceparent_of(text) == ""


def test_a_traceparent_is_one():
    assert traceparent_of(GOOD) == GOOD


def test_without_a_recorder_nothing_happens():
    with span("a", root=True) as made:
        assert made is None
        assert CURRENT.get() == ""
    TRACING.hand_over("row")
    assert TRACING.awaited("row") == ""


def test_spans_are_inside_of_each_other(kept):
    with span("outer", parent=GOOD) as outer:
        with pytest.raises(KeyError), span("inner"):
            raise KeyError("said")
        TRACING.hand_over("row")
        assert TRACING.awaited("row") == outer.traceparent
    assert kept == [("inner", outer.traceparent, "KeyError"), ("outer", GOOD, None)]
    assert CURRENT.get() == ""
    TRACING.at_rest("row")
    assert TRACING.awaited("row") == ""


def test_what_nobody_asked_for_is_not_recorded(kept):
    with span("alone"), span("alone", parent=""):
        pass
    assert kept == []
    with span("root", root=True):
        pass
    assert kept == [("root", "", None)]
