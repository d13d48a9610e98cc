"""Generators: pictures and captions drawn from numbers, the same bytes on every machine."""
