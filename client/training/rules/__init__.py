"""Halves of aggregation rules at the sites, one a file, as `client.training.rule` says; named as the rule is."""
