"""Loading and saving of checkpoints: whole models, prompts alone, checksums, and the guards of loading."""
