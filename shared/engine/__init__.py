"""What happens around every step: messages, results, effects that happen once, and the way to the bus."""
