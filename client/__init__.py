"""The hospital: everything that touches patients."""
