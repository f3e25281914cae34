"""Metrics and logs. Imports nothing of the other layers."""
