"""What `infra: coreweave` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="coreweave",
    title="CoreWeave",
    credentials=(
        "file:~/.coreweave/cw.config",
        "file:~/.coreweave/cw.credentials",
    ),
    fix=(
        "Make an API access token in the CoreWeave console.",
        "For object storage, put access keys into `~/.coreweave/cw.credentials` and the endpoint into `cw.config`.",
        "For compute, download the kubeconfig of your cluster and use it as `infra: k8s/CONTEXT`.",
    ),
)
