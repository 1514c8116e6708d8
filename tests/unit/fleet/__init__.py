"""Fleets: many databases of one vault, within what Azure allows."""
