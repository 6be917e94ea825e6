"""OVHcloud as a place with compute."""
