"""What a place wants of labels and images: told with what was found and what is allowed."""

import pytest

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.place_rules import PlaceRules, check
from sky.core.model.resources import Resources

STRICT = PlaceRules(label_key="[a-z][a-z0-9_-]{0,62}", label_value="[a-z0-9_-]{0,63}", images_by_region=True)


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (Resources(labels={"Team": "a"}), "found the key 'Team'"),
        (Resources(labels={"team": "A B"}), "labels.team: found 'A B'"),
        (Resources(infra="aws", image_id="ami-1"), "found 'ami-1' without a region"),
        (Resources(infra="aws/eu-west-1", image_id={"us-east-1": "ami-1"}), "found no image for eu-west-1"),
    ],
)
def test_what_breaks_a_rule_is_told(resources, words):
    assert words in (STRICT.broken(resources) or "")
    with pytest.raises(InvalidSkyPilotConfigError, match="resources"):
        check(resources, STRICT)


@pytest.mark.parametrize(
    "resources",
    [
        Resources(),
        Resources(labels={"team": "a_b-1"}),
        Resources(image_id="docker:me/app"),
        Resources(infra="aws/us-east-1", image_id="ami-1"),
        Resources(infra="aws", image_id={"us-east-1": "ami-1", "eu-west-1": "ami-2"}),
    ],
)
def test_what_keeps_the_rules_passes(resources):
    assert STRICT.broken(resources) is None
    check(resources, STRICT)


def test_without_rules_everything_passes():
    assert PlaceRules().broken(Resources(infra="aws", image_id="ami-1", labels={"Any Thing": "Ü"})) is None
