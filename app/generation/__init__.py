"""Engines behind ``ports.Decoder``: drawing candidates from a language model with their basis rewards."""
