"""The functions of the app: the table of those that are alike, and `track`, which takes batches."""
