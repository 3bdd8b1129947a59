"""Examine a machine: survey it, diagnose it, and say what can be tested there."""
