"""A tmux that is already there, asked by its own client. Nothing here knows what runs in its panes."""
