"""Training: arguments and recipes, the trainer, and what a run leaves behind."""
