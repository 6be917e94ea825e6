"""`python -m sky.cli`: the same as the `sky` command, for where the console script is not on the path."""

from sky.cli import script

if __name__ == "__main__":
    script()
