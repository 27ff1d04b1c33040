"""The numerical core: arrays in, frozen dataclasses out. Knows no IO, clock, settings or torch."""
