"""Prompts to tokens to results: what each task asks of the model and reads from its answer. Plain Python and numpy."""
