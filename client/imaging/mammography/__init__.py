"""Mammograms: views, headers and files."""
