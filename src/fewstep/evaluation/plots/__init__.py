"""Figures, each with the numbers that it shows."""
