"""Scaleway as a place with compute."""
