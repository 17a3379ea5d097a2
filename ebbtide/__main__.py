"""`python -m ebbtide`."""

from ebbtide.entrypoints.cli import main

main()
