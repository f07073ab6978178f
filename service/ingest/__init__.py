"""Items come, change and go."""
