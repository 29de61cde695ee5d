"""A bundle packed for an app: what ships and nothing else, in the files that the app's loader takes; no torch."""
