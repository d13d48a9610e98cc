"""Tier paper before it is run: what is missing, how long and how large it will be, and every stage once on tiny archives with
stand-in weights. Nothing that another room needs.
"""
