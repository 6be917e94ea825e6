"""Hetzner Cloud as a place with compute."""
