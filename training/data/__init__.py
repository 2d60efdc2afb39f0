"""Labelled pictures: lists, files and shards of them, their pixels in a cache, and batches in order."""
