"""Coverage: which databases are backed up as they should be, told from what a vault lists.

`states` has the states and what is told of a database, `ages` how old a policy lets a backup become, `survey` makes
the one from the other. All three are pure. docs/coverage.md says what the states mean and what cannot be known.
"""
