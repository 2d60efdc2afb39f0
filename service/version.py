"""The version of the distribution."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("facet")
except PackageNotFoundError:  # a source tree that was never installed
    VERSION = "0+unknown"
