"""Trains convolutional networks on the eftrain accelerator."""
