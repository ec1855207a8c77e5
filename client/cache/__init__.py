"""The artefact store: arrays made of patients' files, each made once, in worker processes, bounded on the disk."""
