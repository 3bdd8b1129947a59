"""Benchmarks of the harness: measured, recorded, rendered."""
