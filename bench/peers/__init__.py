"""The alternatives to the app, run against the same simulator."""
