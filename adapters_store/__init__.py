"""The bundle format and the versioned store it stands in. No torch, no HTTP."""
