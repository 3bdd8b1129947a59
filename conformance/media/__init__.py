"""The media that guests boot from: recipes, downloads, building, storing, and what the probe reports."""
