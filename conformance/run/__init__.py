"""One run: preparation, checks and their records, clean-up."""
