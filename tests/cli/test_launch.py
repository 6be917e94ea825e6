"""What is typed goes on record without secrets."""

import click
import pytest

from sky.cli.launch import new_name, typed
from sky.core.model.names import check_cluster_name


@pytest.mark.parametrize(
    ("words", "record"),
    [
        (("launch", "echo hi"), "sky launch 'echo hi'"),
        (("exec", "c", "--secret", "A=x y", "run"), "sky exec c --secret A run"),
        (("exec", "c", "--secret=A=x=y", "--env", "B=1"), "sky exec c --secret=A --env B=1"),
        (("exec", "c", "--secret", "A"), "sky exec c --secret A"),
        (("launch", "--secret", "A=two\nlines"), "sky launch --secret A"),
    ],
)
def test_secrets_are_not_recorded(words: tuple[str, ...], record: str) -> None:
    with click.Context(click.Command("launch"), obj=words):
        assert typed() == record


def test_names_made_for_clusters_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    for user in ("ada", "Ada Lovelace", "x@example.com", "", "-"):
        monkeypatch.setattr("getpass.getuser", lambda user=user: user)
        name = new_name()
        assert check_cluster_name(name) == name and name.startswith("sky-")
