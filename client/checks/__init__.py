"""Readiness report of `python -m client check`: counts, problems, pictures."""
