"""Tells Metaflow of the decorator `@sky`. Read by Metaflow wherever it is imported, also on nodes."""

STEP_DECORATORS_DESC = [("sky", ".sky_decorator.SkyDecorator")]
