"""Export of a finished network for other programs: safetensors, ONNX, torch.export, MONAI bundle."""
