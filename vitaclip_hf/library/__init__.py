"""Answers in pictures, timelines of long videos, tables of vectors and their search, relevance."""
