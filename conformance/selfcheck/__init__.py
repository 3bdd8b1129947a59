"""The harness asked about itself: whether it notices what was broken on purpose, and nothing where nothing was."""
