"""The playground: one page for people, which asks this server what any other client could ask it."""
