"""One answer from one live value; nothing is written here."""
