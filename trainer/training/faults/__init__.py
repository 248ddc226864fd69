"""What a run does when something breaks: a signal, a wall limit, a loss that is no loss, a rank that hangs.

signals     TERM, INT, HUP, QUIT and USR2 become a request to stop, obeyed at the next step boundary
output      a terminal or a pipe that is gone stops nothing
deadline    a wall-clock limit known in advance is such a request too, made early enough for a checkpoint
anomalies   losses and gradients that are not as they should be
guard       decides on each step before its update: compute again, skip, roll back or stop
watchdog    a step that never ends is ended, with the stacks of all ranks in the logbook
stragglers  which rank is slower than the others, and by how much
"""
