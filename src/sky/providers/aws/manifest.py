"""What `infra: aws` is, and how a user gets in; loaded by the registry."""

from sky.core.model.place_rules import PlaceRules
from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="aws",
    title="Amazon Web Services",
    capabilities=("compute", "stop", "multi_node", "autostop", "autodown", "spot"),
    factory="sky.providers.aws.compute:open_aws",
    credentials=(
        "env:AWS_ACCESS_KEY_ID",
        "env:AWS_PROFILE",
        "env-file:AWS_SHARED_CREDENTIALS_FILE",
        "file:~/.aws/credentials#aws_access_key_id",
        "file:~/.aws/config#sso_",
        "file:~/.aws/config#credential_process",
    ),
    fix=(
        "Install the AWS command line (pip install awscli).",
        "Run `aws configure` with an access key, or `aws configure sso` for single sign-on.",
        "See that `aws sts get-caller-identity` names your account.",
    ),
    offered=frozenset(
        [
            "autodown",
            "autostop",
            "clone_disk",
            "controllers",
            "disk_tier",
            "docker",
            "image",
            "local_disk",
            "mounts",
            "multi_node",
            "network_tier",
            "ports",
            "spot",
            "stop",
        ]
    ),
    prices="sky.providers.aws.prices:rows",
    rules=PlaceRules(label_key=r"[\w .:/=+@-]{1,128}", label_value=r"[\w .:/=+@-]{0,256}", images_by_region=True),
)
