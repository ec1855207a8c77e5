"""Network parts, each usable alone."""
