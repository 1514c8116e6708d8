from tests.e2e.harness import estate

__all__ = ["estate"]
