"""A hospital's own settings: the YAML's schema and its reading."""
