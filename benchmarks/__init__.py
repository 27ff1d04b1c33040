"""Measurements of speed against published procedures, and those procedures; run from a checkout."""
