"""What the app reports about itself: its log, and traces and measurements where these are recorded."""
