"""The shapes that cross a process boundary, and their versions."""
