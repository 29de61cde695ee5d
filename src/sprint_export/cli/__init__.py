"""The command line: entry, app and verbs, options, progress bars."""
