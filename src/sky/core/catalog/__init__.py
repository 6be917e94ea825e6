"""Which rows of a catalog are believed, how generations are merged, and what a user overrides; pure."""
