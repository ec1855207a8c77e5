"""What `--init` writes: a first YAML, from looking at a folder."""
