"""Lambda as a place with compute."""
