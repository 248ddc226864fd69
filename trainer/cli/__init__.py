"""The command line: one file a family of verbs, named for it."""
