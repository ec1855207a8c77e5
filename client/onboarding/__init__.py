"""First YAML of a site, as `python -m client init` writes it from the files in a folder."""
