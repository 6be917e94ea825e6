"""DigitalOcean as a place with compute."""
