"""A terminal of claude that outlives the operator's: a holder for each bottle, and who is attached to it.

    holder    a process on the host, outside the bottle: it owns the terminal in which claude runs, and lives
              as long as claude does
    viewer    an operator's terminal, attached over the socket in the bottle's own state folder

Invariant: no viewer, however slow, hung or dead, holds the agent up; and nothing that a bottle writes
reaches a viewer but through `filter`.
"""
