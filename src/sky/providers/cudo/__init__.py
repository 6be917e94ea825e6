"""Cudo Compute as a place with compute: what it is and what it sells."""
