"""Learned basis rewards: the artifact on disk, the question pool, and the network that computes them."""
