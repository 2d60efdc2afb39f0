"""Face detection and framing."""
