"""Shadeform as a place with compute."""
