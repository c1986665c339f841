"""Small pure rules that several parts share."""
