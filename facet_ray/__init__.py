"""Facet on a Ray cluster: the service as a Ray Serve application, and edits of whole archives with Ray Data."""
