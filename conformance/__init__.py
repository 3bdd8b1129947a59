"""Conformance harness for the system libvirt daemon in a container."""
