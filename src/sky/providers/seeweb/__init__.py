"""Seeweb as a place with compute."""
