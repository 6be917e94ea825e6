"""Every exception a user may catch, under the name that existing programs import."""

from sky.core.errors.tree import *  # noqa: F403 - the porch shows the whole tree
