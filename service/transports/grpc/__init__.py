"""gRPC: grpc.aio over the tasks."""
