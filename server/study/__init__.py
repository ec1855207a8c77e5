"""A study at the center: exchange, enrolment, aggregation, scoring, checkpoints, results."""
