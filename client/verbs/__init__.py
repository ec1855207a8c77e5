"""What the verbs of `python -m client` print: approvals, ledger, audit log."""
