"""Report of a study: one HTML file from its results.json, and its figures as SVG, PDF and CSV."""
