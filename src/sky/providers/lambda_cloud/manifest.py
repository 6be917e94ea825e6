"""What `infra: lambda` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="lambda",
    title="Lambda",
    credentials=(
        "env:LAMBDA_API_KEY",
        "file:~/.lambda_cloud/lambda_keys#api_key",
    ),
    fix=(
        "Make an API key in the Lambda dashboard.",
        "Write the line `api_key = KEY` into `~/.lambda_cloud/lambda_keys`.",
    ),
    offered=frozenset(["autodown", "docker", "mounts", "multi_node", "ports"]),
    prices="sky.providers.lambda_cloud.prices:rows",
)
