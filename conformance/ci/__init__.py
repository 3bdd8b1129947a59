"""Jobs of the nightly: read from GitHub's workflow, rendered for GitLab."""
