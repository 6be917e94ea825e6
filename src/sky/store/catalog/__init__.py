"""The catalog: one immutable SQLite file per generation, built, replaced atomically, and read without dependencies."""
