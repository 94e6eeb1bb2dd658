"""The video tower as a file for other runtimes: ONNX and OpenVINO, with a check against torch."""
