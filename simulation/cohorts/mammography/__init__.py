"""Synthetic mammograms and their descriptors."""
