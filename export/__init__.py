"""Checkpoint -> ONNX -> verified bundle. Reads `training`, writes what `service.bundle` reads."""
