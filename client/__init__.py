"""Federation client of a hospital: everything that touches patients."""
