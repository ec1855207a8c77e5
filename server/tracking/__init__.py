"""A study in the programs with which people follow experiments: TensorBoard and MLflow, in files at the center."""
