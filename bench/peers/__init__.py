"""What else one would use, driven against the same simulator."""
