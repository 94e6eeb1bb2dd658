"""The `vitaclip` command: one short file for each sub-command."""
