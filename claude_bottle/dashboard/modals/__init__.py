"""What opens above the two panes, and goes with Esc."""
