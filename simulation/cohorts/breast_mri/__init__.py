"""Synthetic breast MRI with radiomics, clinical and genomic tables."""
