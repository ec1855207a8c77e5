"""Synthetic cohorts with known ceilings."""
