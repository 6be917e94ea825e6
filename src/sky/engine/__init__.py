"""Drives what is recorded towards what is wanted: claim, ask `core`, act through ports, commit."""
