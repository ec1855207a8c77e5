"""The cohort of a site: rows, outcomes, exclusions, splits."""
