"""Operating systems to install in a guest: Debian, Windows, and media of the user."""
