"""The coordinating center: runs rounds across hospitals, keeps checkpoints and results, sees no patient."""
