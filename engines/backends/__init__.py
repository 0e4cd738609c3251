"""Table of the backends that run a network, one file each."""

#: Preferred order. "auto" tries the accelerators of all backends, then the processor, until the fastest is known
#: (engines/autotune.py). It never picks the fake.
BACKENDS = {
    "tensorrt": "engines.backends.tensorrt:TensorRtEngine",
    "openvino": "engines.backends.openvino:OpenVinoEngine",
    "onnxruntime": "engines.backends.onnxruntime:OnnxRuntimeEngine",
    "fake": "engines.backends.fake:FakeEngine",
}
#: Answers without computing anything: for tests, and where only the virtual camera is tried.
TEST_BACKEND = "fake"
