"""Microsoft Azure as a place with compute."""
