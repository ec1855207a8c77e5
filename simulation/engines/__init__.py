"""Simulation engines: one process, Ray, or a rehearsal over TLS."""
