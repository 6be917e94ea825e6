"""The ``infra`` syntax, forth and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sky.core.model.clouds import CLOUD_NAMES
from sky.core.model.infra import Infra

part = st.text("abc-1", min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("text", "infra", "written"),
    [
        ("aws", Infra("aws"), "aws"),
        ("AWS/us-east-1/us-east-1a", Infra("aws", "us-east-1", "us-east-1a"), "aws/us-east-1/us-east-1a"),
        ("*", Infra(), None),
        ("", Infra(), None),
        ("*/us-east-1", Infra(None, "us-east-1"), "*/us-east-1"),
        ("aws/*/us-east-1a", Infra("aws", None, "us-east-1a"), "aws/*/us-east-1a"),
        ("aws/*", Infra("aws"), "aws"),
        ("k8s", Infra("kubernetes"), "kubernetes"),
        ("k8s/arn:aws:eks/x/y", Infra("kubernetes", "arn:aws:eks/x/y"), "kubernetes/arn:aws:eks/x/y"),
        ("ssh/pool", Infra("ssh", "pool"), "ssh/pool"),
        ("slurm/cluster/part", Infra("slurm", "cluster", "part"), "slurm/cluster/part"),
        ("local", Infra("local"), "local"),
    ],
)
def test_forms(text: str, infra: Infra, written: str | None) -> None:
    assert Infra.parse(text) == infra
    assert infra.to_str() == written


@given(st.sampled_from(["aws", "gcp", "slurm", None]), part | st.none(), part | st.none())
def test_what_is_written_is_read_back(cloud: str | None, region: str | None, zone: str | None) -> None:
    infra = Infra(cloud, region, zone)
    assert Infra.parse(infra.to_str() or "*") == infra
    assert infra.covers(infra)
    assert Infra().covers(infra)


@pytest.mark.parametrize("name", CLOUD_NAMES)
def test_every_known_cloud_is_an_infra(name: str) -> None:
    assert Infra.parse(name.upper()) == Infra(name)


def test_a_place_covers_what_lies_in_it() -> None:
    assert Infra("aws").covers(Infra("aws", "r", "z"))
    assert not Infra("aws", "r").covers(Infra("aws"))
    assert not Infra("aws").covers(Infra("gcp"))
