"""RunPod as a place with compute."""
