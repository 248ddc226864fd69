"""What there is to choose from: a small file for each objective, optimizer, schedule, launcher, tracker, reader, task.

A description says what the configuration, the books and the help must know of a thing, without numpy and torch. It
names its implementation, which is imported when the thing is used. Each kind has a folder here and one registry.
"""
