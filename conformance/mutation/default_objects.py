"""Mutants of the default network and pool: each element dropped, each attribute and text dropped or changed."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

from conformance.mutation import values
from conformance.mutation.mutant import ImageFiles, Mutant

OTHER_TEXTS = {"default": "other", "/var/lib/libvirt/images": "/var/lib/libvirt/other", "virbr0": "virbr9"}
"""Other values for names and paths."""

_VALUE = re.compile(r"<(?P<element>\w+)(?P<before>[^<>]*?) (?P<name>\w+)='(?P<value>[^']*)'")


def objects(files: ImageFiles) -> Iterator[Mutant]:
    """Change each definition in ``defaults/`` in each place."""
    for file, text in files.items():
        if file.startswith("defaults/"):
            yield from _elements(file, text)
            yield from _attributes(file, text)


def _elements(file: str, text: str) -> Iterator[Mutant]:
    root = ET.fromstring(text)  # noqa: S314 - a file of the project
    for element in list(root.iter())[1:]:
        place = element.tag
        parent = next(one for one in root.iter() if element in list(one))
        index = list(parent).index(element)
        parent.remove(element)
        yield _mutant(file, place, "dropped", f"lacks the element {place}", ET.tostring(root, encoding="unicode"))
        parent.insert(index, element)
        if other := OTHER_TEXTS.get(element.text or ""):
            old, element.text = element.text, other
            made = ET.tostring(root, encoding="unicode")
            element.text = old
            yield _mutant(file, place, f"to {other}", f"has {other} as its {place}, not {old}", made)


def _attributes(file: str, text: str) -> Iterator[Mutant]:
    root = ET.fromstring(text)  # noqa: S314 - a file of the project
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            place = f"{element.tag} {name}"
            others: list[str | None] = [None, OTHER_TEXTS.get(value) or values.changed(value)]
            for other in others:
                if other is None and other is others[1]:
                    continue
                del element.attrib[name]
                if other is not None:
                    element.set(name, other)
                made = ET.tostring(root, encoding="unicode")
                element.set(name, value)
                if other is None:
                    yield _mutant(file, place, "dropped", f"lacks the attribute {name} of {element.tag}", made)
                else:
                    yield _mutant(file, place, f"to {other}", f"has {name}={other} in {element.tag}, not {value}", made)


def _mutant(file: str, place: str, change: str, sentence: str, text: str) -> Mutant:
    return Mutant("object", file, place, change, f"{file} {sentence}", {file: f"{text}\n"})
