"""What a component makes of the signals by which its pod is ended."""

import os
import signal

import pytest

from kfp_sky import step


def test_only_the_first_signal_is_heeded() -> None:
    """The second may come before the first has been caught, and must not end the clean-up."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(step._Ended, match="SIGTERM"), step._signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
