"""Pixels: decoding, encoding, framing, and edits applied at the photograph's resolution."""
