"""Aggregation rules, one a file, as `server.study.aggregation.rule` says; its name is the strategy's, `-` for `_`."""
