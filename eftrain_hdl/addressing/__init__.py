"""Tiles, taps and addresses: who touches what, and where it lies."""
