"""Synthetic brain metastases."""
