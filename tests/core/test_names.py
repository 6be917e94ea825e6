"""What things may be called."""

import pytest

from sky.core.errors import InvalidClusterNameError
from sky.core.model import names


@pytest.mark.parametrize("name", ["a", "sweep-lr0.001-bs32", "A_b.c-9", "x" * 200])
def test_cluster_names(name: str) -> None:
    assert names.check_cluster_name(name) == name


@pytest.mark.parametrize("name", ["", "1a", "-a", "a-", "a b", "a/b", "é", "x" * 300, None])
def test_cluster_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidClusterNameError, match="must begin with a letter"):
        names.check_cluster_name(name)


@pytest.mark.parametrize("name", ["a", "1", "a.b_c-d", "a--b"])
def test_task_names(name: str) -> None:
    assert names.check_task_name(name) == name


@pytest.mark.parametrize("name", ["", "-", "a-", "a---b", "a b", "a\n"])
def test_task_names_that_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="found the name"):
        names.check_task_name(name)


@pytest.mark.parametrize("name", ["1", "a-b", "", "ä", "a b", "A\n"])
def test_variable_names_that_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="found the variable name"):
        names.check_env_name(name)
