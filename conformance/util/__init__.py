"""Helpers that every other package may use: folders, deadlines, progress, signals, processes."""
