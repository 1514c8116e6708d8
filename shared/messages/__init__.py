"""The messages: what crosses the system's border (CloudEvents) and what passes between steps."""
