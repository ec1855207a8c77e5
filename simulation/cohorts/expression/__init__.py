"""Synthetic gene expression, miRNA and histology tiles."""
