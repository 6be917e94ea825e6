"""Requirements × offers → ranked placements, each rejection with its reason."""
