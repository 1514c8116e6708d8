"""Azure Resource Manager: ids, tokens, and one HTTP client that is careful with both."""

from __future__ import annotations

__all__ = ["USER_AGENT"]

#: the app's User-Agent; the version repeats that of pyproject.toml, which is not deployed
USER_AGENT = "sql-vm-backup-functions/0.1.0"
