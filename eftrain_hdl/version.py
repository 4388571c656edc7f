"""Version of the gateware, as the VERSION register reports it."""

VERSION = (0, 1, 0)
"""Major, minor, patch."""
