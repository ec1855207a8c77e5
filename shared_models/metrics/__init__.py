"""Additive statistics, ROC from histograms, intervals."""
