"""Bundled data: the handwritten digits, and the base network's weights."""
