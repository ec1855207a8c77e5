"""One reader a modality: from the hospital's files to tensors."""
