"""Attacks on a running service: requests made from its OpenAPI document, and pictures made to break decoders."""
