"""Secure aggregation, protocol 2: what sites and center compute alike. See `docs/secure_aggregation.md`.

Bonawitz 2017 (10.1145/3133956.3133982) against an active center that has the secrets of up to `c` sites, with what is
asked bound into every mask (Pasquini 2022, arXiv:2111.07380).
"""
