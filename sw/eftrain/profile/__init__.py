"""What the device does while a program runs: counters, sampled, as a table and as a trace."""
