"""The commands of ``paliserve``: one module each, which adds its arguments to the parser and runs it."""
