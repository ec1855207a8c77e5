"""Verbs of `python -m client` that show or change records: approvals, ledger, audit log."""
