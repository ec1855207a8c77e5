"""Dataset, training loop, oversampling, FedBN, ComBat."""
