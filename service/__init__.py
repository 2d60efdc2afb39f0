"""The REST service. It imports nothing else from the project, and never torch."""
