"""The operator's screen: what waits for an answer above, what runs below.

    Source (threads) --World--> App --rows, keys (pure)--> widgets
    a key --> App --> Act (a process of its own) | Beside (tmux) | a modal

Invariant: it decides nothing. What it shows comes from `operations`; what it does is a command of the command
line, run as a process of its own that asks and tells through a pipe. So a bottle belongs to no dashboard: any
number of them may come and go. All text reaches a widget through `paint`, which takes nothing for markup.
"""
