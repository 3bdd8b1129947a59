"""The lab: a virtual machine with what a machine may lack, such as KVM, a current engine or AppArmor.

It runs under plain QEMU, built from pinned Debian packages and without root. To the harness it is an engine elsewhere.
``docs/lab.md`` says how it works; ``lab/`` holds the definitions.
"""

from conformance.util import paths

DEFINITIONS = paths.LAB
