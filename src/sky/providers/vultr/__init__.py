"""Vultr as a place with compute."""
