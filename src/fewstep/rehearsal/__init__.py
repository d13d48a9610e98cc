"""Tier paper before it is run, and every stage of it once in small. Nothing that another room needs."""
