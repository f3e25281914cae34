"""For all tests: examples are found anew in every run, and no example is judged by the clock of a busy machine."""

from hypothesis import settings

settings.register_profile("house", deadline=None)
settings.load_profile("house")
