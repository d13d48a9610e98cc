"""The rules that carry a tangent through a network: values and derivatives side by side, in one pass."""
