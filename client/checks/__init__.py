"""What `--check` shows: counts, problems, pictures."""
