"""Wrappers: Perl scripts in front of programs of the image, which change the arguments of each call."""

import re

FOLDER = "/usr/local/sbin"
"""The first folder of the image's path."""

REAL = {
    "qemu-system-x86_64": "/usr/bin/qemu-system-x86_64",
    "qemu-img": "/usr/bin/qemu-img",
    "dnsmasq": "/usr/sbin/dnsmasq",
    "swtpm": "/usr/bin/swtpm",
    "swtpm_setup": "/usr/bin/swtpm_setup",
    "iptables": "/usr/sbin/iptables",
    "ip6tables": "/usr/sbin/ip6tables",
}
"""The programs that libvirt calls, by their names."""


def path(program: str) -> str:
    """Return the path of a program's wrapper."""
    return f"{FOLDER}/{program}"


def script(program: str, body: str) -> str:
    """Return a wrapper that runs some Perl on ``@words``, the arguments, and then the program."""
    real = quoted(REAL[program])
    return (
        "#!/usr/bin/perl\n"
        "use strict;\nuse warnings;\n"
        f"my @words = @ARGV;\n{body}\n"
        f"exec {{ {real} }} {real}, @words or die;\n"
    )


def quoted(text: str) -> str:
    """Return a text as a Perl string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def without_option(option: str, select: str = "", *, valued: bool = True) -> str:
    """Drop an option, with its value where that matches."""
    condition = f" && ($words[$_ + 1] // '') =~ {_regex(select)}" if valued else ""
    length = 2 if valued else 1
    return f"for (reverse 0 .. $#words) {{ splice(@words, $_, {length}) if $words[$_] eq {quoted(option)}{condition} }}"


def replaced(option: str, select: str, pattern: str, new: str) -> str:
    """Replace a pattern in the values of an option that match."""
    return (
        f"my $new = {quoted(new)};\n"
        f"for (reverse 0 .. $#words - 1) {{\n"
        f"  next unless $words[$_] eq {quoted(option)} && $words[$_ + 1] =~ {_regex(select)};\n"
        f"  $words[$_ + 1] =~ s{_regex(pattern)}$new/;\n}}"
    )


def without_word(prefix: str) -> str:
    """Drop the words that begin with a text."""
    return f"@words = grep {{ index($_, {quoted(prefix)}) != 0 }} @words;"


def edited_file(option: str, edit: str) -> str:
    """Run some Perl on ``@lines``, the lines of the file that an option like ``--conf-file=`` names."""
    return (
        f"for (@words) {{\n  next unless index($_, {quoted(option)}) == 0;\n"
        f"  my $file = substr($_, {len(option)});\n"
        "  open(my $in, '<', $file) or next;\n  my @lines = <$in>;\n  close $in;\n"
        f"  {edit}\n"
        "  open(my $out, '>', $file) or die;\n  print $out @lines;\n  close $out;\n}"
    )


def skipped_call(pattern: str) -> str:
    """End at once, with success, where all words together match."""
    return f'exit 0 if "@words" =~ {_regex(pattern)};'


def added_words(pattern: str, before: str, *words: str) -> str:
    """Put words before another word, where all words together match."""
    listed = ", ".join(map(quoted, words))
    added = f"map {{ $_ eq {quoted(before)} ? ({listed}, $_) : $_ }} @words"
    return f'@words = {added} if "@words" =~ {_regex(pattern)};'


def _regex(pattern: str) -> str:
    return "/" + re.sub(r"(?<!\\)([/@$](?!$|\)|\|))", r"\\\1", pattern) + "/"
