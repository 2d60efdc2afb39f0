"""Provenance of pictures: metadata, watermarks and signed manifests, written and read."""
