"""What protects patients: policy, private training, ledger, audit log."""
