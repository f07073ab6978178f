"""What development runs: nothing here is installed."""
