"""Weights of a study: the first ones, their travel, and the checkpoint of every round."""
