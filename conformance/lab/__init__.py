"""The lab: virtual machines with features that a machine may lack, such as KVM, a current engine or AppArmor.

A lab runs under plain QEMU, is built from pinned Debian packages and needs no root. The harness treats it as a remote
engine.
``docs/lab.md`` says how it works; ``lab/`` holds the definitions.
"""

from conformance.util import paths

DEFINITIONS = paths.LAB
