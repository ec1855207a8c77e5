"""DICOM series, headers and segmentations."""
