"""Written by protoc from `protos/`: `make generate`."""
