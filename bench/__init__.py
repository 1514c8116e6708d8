"""Benchmarks: what the app costs and how fast it is, against its peers, on the simulator with Azure's limits."""
