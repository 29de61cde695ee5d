"""`python -m sprint_export` is the command."""

from sprint_export.cli.entry import main

if __name__ == "__main__":
    main()
