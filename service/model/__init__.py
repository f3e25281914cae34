"""The model itself: loading, preprocessing, the runner over transformers' modules, the mask decoder.

Implements what ``engine`` asks for.
"""
