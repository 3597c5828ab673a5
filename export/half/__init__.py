"""Half precision by the graph: which operators compute in FP16 is written in the ONNX file, and nowhere else."""
