"""Governance at the site: policy, approvals, privacy ledger, audit log, partners, small-cell suppression."""
