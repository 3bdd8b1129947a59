"""Runs of the matrix as pytest sessions: selection, single sessions, workers side by side, several hosts."""
