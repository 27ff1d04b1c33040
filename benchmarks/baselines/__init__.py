"""Published procedures, written again from their formulas, to compare with."""
