"""Remembers. The only room that speaks SQL; everything else sees the protocols of `core.ports`."""
