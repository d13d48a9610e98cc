"""Mathematical tests: every formula of the library against something exact."""
