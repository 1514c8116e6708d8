"""What comes in from outside the steps: requests, schedules, dead letters, replays."""
