"""Managed run commands of virtual machines, and the script that the app runs on a drill's VM."""
