"""One door per expert kernel, whoever wrote it."""
