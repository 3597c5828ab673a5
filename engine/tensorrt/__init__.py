"""TensorRT and TensorRT for RTX: engines built, checked, loaded and run."""
