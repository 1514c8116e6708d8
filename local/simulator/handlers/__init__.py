"""Handlers: each answers the requests of its routes from the state of the world."""
