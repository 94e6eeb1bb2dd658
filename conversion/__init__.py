"""Conversion to Vita-CLIP folders from the released format and from any CLIP, and publication on the Hub."""
