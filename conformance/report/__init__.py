"""Contract and records, rendered for readers: README tables, terminal, HTML page, differences."""
