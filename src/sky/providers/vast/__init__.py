"""Vast as a place with compute."""
