"""Aggregation of a round's updates: the guard, the clipping, and the rules, one a file in `rules/`."""
