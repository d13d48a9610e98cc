"""Readers of published archives, in the formats in which they were published."""
