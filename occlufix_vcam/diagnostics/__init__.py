"""What this machine has, what is wrong with it, and the steps that set it up."""
