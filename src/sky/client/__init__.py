"""The client's calls under the names that existing programs import: `sky.client.sdk` and `sky.client.sdk_async`."""
