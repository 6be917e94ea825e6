"""Verda as a place with compute."""
