"""Evaluation: protocols, the evaluator, its report, and comparisons of results."""
