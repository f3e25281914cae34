"""``paliserve doctor``: what is wrong here, and how to mend it. Each check looks at one thing and says what it found."""
