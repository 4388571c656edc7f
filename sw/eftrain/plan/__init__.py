"""From a network to layer passes, tile shapes and a DRAM map; knows no tensor's values."""
