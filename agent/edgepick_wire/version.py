"""The version of the one distribution; every part reports it."""

__version__ = "0.1.0"
