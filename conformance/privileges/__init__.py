"""What each feature needs of what a mode gives: measured, by taking away."""
