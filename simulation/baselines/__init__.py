"""Baselines of a federated network: pooled training, local training, trees."""
