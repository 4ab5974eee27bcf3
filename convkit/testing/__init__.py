"""What tests and benchmarks share: the shapes they run on and the errors they accept."""
