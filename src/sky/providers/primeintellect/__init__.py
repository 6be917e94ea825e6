"""Prime Intellect as a place with compute."""
