"""Messages that come from outside the steps: requests, schedules, dead letters, replays."""
