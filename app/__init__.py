"""attune: answers in each person's taste, learned from a few questions."""
