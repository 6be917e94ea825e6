"""Amazon Web Services as a place with compute."""
