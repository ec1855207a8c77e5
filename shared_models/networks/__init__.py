"""Network parts: encoders, attention, fusion; each usable alone."""
