"""Tests of the harness: it must notice deliberate defects, and must not report harmless changes."""
