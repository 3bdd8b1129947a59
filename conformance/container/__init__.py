"""The container under test, and the ways into it: engine, libvirt, testinfra."""
