"""A site's side of secure aggregation: five exchanges, nine checks, and a record that outlives the process."""
