"""Ten minutes of everything at once: what grows, what leaks, what is lost."""
