"""One map, many names: the formulas of other papers beside this library's functions, and what they differ by."""
