"""The `sqlvmbackup` command."""
