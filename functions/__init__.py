"""The functions of the app, with their triggers; each makes one call."""
