"""Half an hour on a rented GPU: what travels there, three runs ready to start, and weights that come back.

docs/rented-gpu.md shows the way. Nothing here needs more of that machine than Python, torch, onnx, onnxruntime and
the small packages that the training imports.
"""
