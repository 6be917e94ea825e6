"""Google Cloud as a place with compute."""
