"""What this process answers from, kept equal to the store and the state."""
