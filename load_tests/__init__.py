"""Benchmarks. Each is one command and writes its figures, with the machine and the versions, into ``results/``."""
