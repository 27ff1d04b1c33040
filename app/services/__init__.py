"""The use cases, one a file: frozen dataclasses of ports with one ``async __call__``."""
