"""Input from strangers: whatever it is, what reads it says what is wrong, and nothing else happens."""
