"""REST: FastAPI over the tasks."""
