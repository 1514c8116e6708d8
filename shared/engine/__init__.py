"""What surrounds every step: its messages, its results, effects that happen once, and sending to the bus."""
