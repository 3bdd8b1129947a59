"""Windows: the content of its medium, and its unattended installation."""
