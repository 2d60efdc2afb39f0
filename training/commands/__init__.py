"""The commands of `python -m training`, a module for each or for a few that belong together."""
