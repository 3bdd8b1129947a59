"""The pytest plugin: options, collection, fixtures and reporting.

It has two parts, since pytest loads the entry point ``pytest11`` in every session of the environment:

:mod:`conformance.plugin.entry` is the entry point. It adds options and ini keys, and nothing else: no fixture, no
marker, no import of Docker's or libvirt's client, no contract. The options cannot wait for the suites' ``conftest.py``:
``pytest --pyargs conformance.suites`` imports that file only after the command line has been parsed.

:mod:`conformance.plugin.session` is the rest. ``load`` imports it for the suites, as soon as the arguments name them or
their ``conftest.py`` is imported. Fixtures come by the names in that ``conftest.py``, so that pytest limits them to its
folder: another project's ``container`` or ``mode`` and these do not meet.

Each option has a prefixed name (``--libvirt-image``). The short one (``--image``) is accepted too, unless another
plugin or a ``conftest.py`` has taken it. Settings that a user makes once have an ini key (``libvirt_image``).
"""

pytest_plugins = ["conformance.plugin.entry"]
