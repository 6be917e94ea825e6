"""What a place wants of labels and images, as its manifest says it; checked before anything is planned there."""

import re
from dataclasses import dataclass

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.resources import Resources


@dataclass(frozen=True, slots=True)
class PlaceRules:
    """`label_key` and `label_value` are patterns that a whole key or value has to match, empty for anything.

    `images_by_region`: an image has another name in each region, so that one name says nothing without a region.
    """

    label_key: str = ""
    label_value: str = ""
    images_by_region: bool = False

    def broken(self, resources: Resources) -> str | None:
        """What of the resources breaks a rule, in words; None if nothing does."""
        for key, value in (resources.labels or {}).items():
            if self.label_key and not re.fullmatch(self.label_key, key):
                return f"labels: found the key '{key[:80]}'; allowed: what matches {self.label_key}"
            if self.label_value and not re.fullmatch(self.label_value, value):
                return f"labels.{key}: found '{value[:80]}'; allowed: what matches {self.label_value}"
        images = resources.image_id or {}
        plain = [image for image in images.values() if not image.startswith("docker:")]
        if self.images_by_region and plain and None in images:
            return f"image_id: found '{plain[0][:80]}' without a region; allowed: a region in infra, or a map by region"
        if plain and None not in images and resources.region is not None and resources.region not in images:
            return f"image_id: found no image for {resources.region}; allowed: one of {', '.join(map(str, images))}"
        return None


def check(resources: Resources, rules: PlaceRules) -> None:
    """Raise InvalidSkyPilotConfigError where resources that name a cloud break its rules."""
    wrong = rules.broken(resources)
    if wrong is not None:
        raise InvalidSkyPilotConfigError(f"Invalid resources YAML: (resources) on {resources.infra.cloud}: {wrong}")
