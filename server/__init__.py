"""Coordinating center: runs rounds across sites, writes checkpoints and results, holds no patient data."""
