"""Sweeps: a study trained with many settings and seeds, and compared on validation patients alone."""
