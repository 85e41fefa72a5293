"""What an operator runs: the sweeper, Flower's configuration, the local stack and the demonstration."""
