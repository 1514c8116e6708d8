"""Benchmarks: what the app costs and how fast it is, compared with its peers, on the simulator with Azure's limits."""
