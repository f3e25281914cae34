"""The embedded models: drawn scenes, the training that makes them, and their weights. Nothing imports them but the wiring."""
