"""The client's calls under the names that existing programs import: `sky.client.sdk` and `sky.client.sdk_async`."""

from sky.compat.finding import beside

__getattr__ = beside("sky.client")
