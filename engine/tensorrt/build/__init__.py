"""TensorRT and TensorRT for RTX engines from ONNX files, by one builder."""
