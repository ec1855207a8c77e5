"""Differentially private training: per-sample gradients, clipping, noise."""
