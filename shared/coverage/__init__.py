"""Coverage: which databases are backed up as they should be, judged from a vault's listings.

`states` has the states and what is reported of a database, `ages` how old a policy lets a backup become; `survey`
judges each database. All three are pure. docs/coverage.md says what the states mean and what cannot be known.
"""
