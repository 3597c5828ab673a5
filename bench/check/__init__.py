"""Whether one measurement is worse than an earlier one by more than the noise of both."""
