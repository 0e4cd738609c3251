"""The backends that run a network: their table, and one file each."""

#: Best first among equals. "auto" tries the accelerators of all of them, then the processor, until it is known which
#: is the fastest here (engines/autotune.py); never the fake.
BACKENDS = {
    "tensorrt": "engines.backends.tensorrt:TensorRtEngine",
    "openvino": "engines.backends.openvino:OpenVinoEngine",
    "onnxruntime": "engines.backends.onnxruntime:OnnxRuntimeEngine",
    "fake": "engines.backends.fake:FakeEngine",
}
