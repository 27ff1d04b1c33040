"""The sides of the decoding benchmark, and how turns are timed."""
