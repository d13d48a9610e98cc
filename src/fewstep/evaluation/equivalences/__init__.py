"""One map, many names: formulas of other papers beside this library's functions, and how they differ."""
