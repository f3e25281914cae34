"""Load against a running server: arrivals, connections, figures, a table and a plot. For ``paliserve bench`` and for ``load_tests``."""
