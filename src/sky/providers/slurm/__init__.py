"""Slurm clusters: one allocation for each cluster of ours."""
