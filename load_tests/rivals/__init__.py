"""PaliServe against what people would run instead, on the same machine with the same weights: ``python -m load_tests.rivals``."""
