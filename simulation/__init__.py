"""Simulation of a study on one machine: the same server and client over an in-process grid."""
