"""Evaluations: simulated and real people, methods that learn from some and predict others, and what they score."""
