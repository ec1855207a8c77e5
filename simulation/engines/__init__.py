"""What runs the sites of a simulation: one process, Ray, or a rehearsal over TLS."""
