"""Baselines beside a federated network: pooled, local, trees."""
