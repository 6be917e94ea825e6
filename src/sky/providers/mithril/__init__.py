"""Mithril as a place with compute."""
