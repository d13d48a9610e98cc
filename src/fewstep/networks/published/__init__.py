"""Published weights and their converters, which check every name and shape and run nothing in a file."""
