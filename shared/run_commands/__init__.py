"""Managed run commands of virtual machines: what the app asks of a drill's VM, and the script that it sends there."""
