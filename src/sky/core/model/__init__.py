"""Frozen nouns and their validation."""
