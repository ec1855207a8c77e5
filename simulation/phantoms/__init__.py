"""Phantoms: patients whose outcome shows in one known way, made without regard to any network of this repository."""
