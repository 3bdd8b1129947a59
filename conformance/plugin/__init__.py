"""The pytest plugin: options, collection, fixtures and reporting.

It does nothing in a session without tests that carry a feature's marker.
"""

pytest_plugins = [
    "conformance.plugin.options",
    "conformance.plugin.collection",
    "conformance.plugin.fixtures",
    "conformance.plugin.reporting",
]
