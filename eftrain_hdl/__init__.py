"""Gateware of eftrain: an FPGA accelerator that trains convolutional networks."""
