"""The parts of ``benchmarks/preferences.py``: one file a step of the numerical core."""
