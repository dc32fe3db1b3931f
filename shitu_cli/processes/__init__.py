"""Several processes of one run: starting them, meeting on several machines, and what they exchange."""
