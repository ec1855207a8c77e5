"""Secure aggregation at the center: sums over sites of which it sees nothing but the sum."""
