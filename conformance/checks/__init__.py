"""Helpers that suites import: libvirt objects, devices, networks, access to the host."""
