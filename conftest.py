"""The suites use the fixtures of the ``conformance`` plugin; see conformance/plugin/."""
