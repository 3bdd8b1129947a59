"""The engine's host: KVM, security modules, network, devices, and the changes that a run undoes there."""
