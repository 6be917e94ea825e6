"""Fluidstack as a place with compute."""
