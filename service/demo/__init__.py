"""The embedded model: drawn scenes, the training that makes it, and its weights. Nothing imports it but the wiring."""
