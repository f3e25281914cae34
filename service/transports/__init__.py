"""The wire. A transport reads, awaits one task and writes; transports do not know one another."""
