"""One run as several pytest sessions: selected, started, supervised, and spread over hosts."""
