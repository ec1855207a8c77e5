"""Tiles of slides: stain normalisation and features."""
