"""Guests in the container under test: definitions, boots, consoles, screens, networks."""
