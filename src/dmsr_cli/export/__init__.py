"""Writes the network in the form of ONNX, for other programs, and compares it with PyTorch."""
