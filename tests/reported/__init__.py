"""What public bug reports, recordings of the service and its platform say, as tests."""
