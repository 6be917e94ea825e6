"""What a machine does at its first start: takes the key it is known by, lets this installation in. For cloud-init.

Whoever runs on a machine can read this text there, so it holds the machine's own key, and nothing else of value.
"""

import json

from sky.core.model.machines import Login
from sky.providers.aws.config import AwsConfig

_KEY_FILE = "/etc/ssh/ssh_host_ed25519_key"
#: Where sshd came up before the key was written, it reads it now. Sessions that are open stay.
_READ_AGAIN = (
    'for i in 1 2 3 4 5 6 7 8 9 10; do [ -s /run/sshd.pid ] && kill -HUP "$(cat /run/sshd.pid)" && break; '
    "sleep 0.2; done"
)


def user_data(login: Login, config: AwsConfig) -> str:
    """A cloud-config (JSON is YAML). The key is given twice: cloud-init's own way makes no other keys beside it,
    the plain files are for images whose cloud-init was told to leave keys alone.
    """
    told = {
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": login.host_private_key, "ed25519_public": login.host_public_key},
        "ssh_authorized_keys": [login.public_key],
        "write_files": [
            {"path": _KEY_FILE, "permissions": "0600", "content": login.host_private_key},
            {"path": f"{_KEY_FILE}.pub", "permissions": "0644", "content": f"{login.host_public_key}\n"},
        ],
        "runcmd": [
            _READ_AGAIN,
            *(each if isinstance(each, str) else list(each) for each in config.first_commands),
        ],
    }
    return f"#cloud-config\n{json.dumps(told, indent=1)}\n"
