"""Following what a step started: an operation until its job is known, then the job to its end."""
