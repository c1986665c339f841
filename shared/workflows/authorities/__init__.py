"""Certificate authorities: made, brought along, proved, loaded."""
