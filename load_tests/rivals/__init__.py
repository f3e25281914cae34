"""PaliServe beside what people write first: the same weights, machine, requests and client, taking turns."""
