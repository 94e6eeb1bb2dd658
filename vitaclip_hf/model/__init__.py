"""The model and everything that travels with a published checkpoint as its code.

The folder is flat and imports nothing of the rest of the package: transformers copies `from .x import` files only.
"""
