"""A model becomes ONNX graphs that funasr-onnx and sherpa-onnx read, each proved beside torch,
by onnxruntime and by the two themselves.

Imports: the ground floor, backends, data.audio, data.features, data.text, hub, models, nn.
"""
