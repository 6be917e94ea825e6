"""The names under which existing programs reach the SDK."""

import sky.client.sdk as plain
import sky.client.sdk_async as coroutines
from sky.sdk import asynchronous, clusters


def test_the_porch_shows_the_same_objects() -> None:
    assert plain.launch is clusters.launch
    assert coroutines.launch is asynchronous.launch
    assert coroutines.StreamConfig is asynchronous.StreamConfig


def test_whatever_is_a_call_is_also_a_coroutine() -> None:
    missing = set(plain.__all__) - set(coroutines.__all__)
    assert missing == {
        *("dashboard", "stream_response", "tail_hook_logs", "tail_provision_logs"),
    }
