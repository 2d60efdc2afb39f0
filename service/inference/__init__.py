"""Graphs that run: dynamic batching, ONNX Runtime, models and their reload."""
