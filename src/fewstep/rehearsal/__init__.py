"""Tier paper before it is run: what is missing, how long and large it will be, every stage once in small.

Nothing that another room needs is here.
"""
