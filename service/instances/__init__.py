"""Which instances exist, which one answers a request, and how one becomes warm."""
