"""Where programs import the calls of managed jobs from; re-exports only."""
