"""Development only: the local stack. Kept out of the deployment."""
