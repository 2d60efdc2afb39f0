"""Who may call, for what, and how much of it."""
