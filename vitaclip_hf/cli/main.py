"""The `vitaclip` command."""
