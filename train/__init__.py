"""Training: from faces to the ONNX files that the product runs."""
