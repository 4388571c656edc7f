"""Buffers, array, accumulators and what happens to a result on its way out."""
