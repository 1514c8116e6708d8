"""Coverage: which databases are backed up as they should be, judged from a vault's listings.

`find_vaults` and `survey_vault` are the steps. What they ask is pure, but for `vault_listings` and `single_reads`. A
`survey` goes through a vault's `inventory` and makes an `assessment` of each database, in the terms of `states`;
`gaps` are what is reported, and `repairs` what the rules do about them. docs/coverage.md says what the states mean and
what cannot be known.
"""
