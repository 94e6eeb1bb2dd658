"""Data, not code: architectures, recipes, protocols and accelerate files."""
