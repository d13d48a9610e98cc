"""Flows whose velocity is known in closed form: what every formula is tested against."""
