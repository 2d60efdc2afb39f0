"""Attacks on decoders by kind: each takes a random generator and returns a file."""
