"""The suites: one module a feature, each test a sentence about the image."""
