"""From a checkpoint to ONNX files, int8 and the model card."""
