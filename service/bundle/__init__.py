"""The bundle: the only contract between training and serving."""
