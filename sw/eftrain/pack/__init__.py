"""From numpy tensors and layer passes to the bytes the device reads."""
