"""Azure Backup for SQL Server in Azure VMs: its operations, and the models of its answers."""
