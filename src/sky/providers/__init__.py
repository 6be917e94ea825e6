"""One folder per place with compute: its offers, its verbs, its errors. Found by entry point, named nowhere else."""
