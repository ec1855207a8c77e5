"""Artefacts made of patients' files, computed once in worker processes and cached by content."""
