"""Oracle Cloud as a place with compute."""
