"""Worlds whose velocity is known in closed form: what every formula here is tested against."""
