"""The functions, a module each: trigger, one step, next message."""
