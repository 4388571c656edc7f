"""Boards: pins, clocks and the scripts of vendor tools. None is supported yet."""
