"""This machine as a place with compute."""
