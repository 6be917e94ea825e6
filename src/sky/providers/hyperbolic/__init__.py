"""Hyperbolic as a place with compute."""
