"""Families of priors: what people have in common, and how each family learns of a person."""
