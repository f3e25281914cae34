"""Continuous batching: which request runs when. Plain Python; the model is behind ``runner.ModelRunner``."""
