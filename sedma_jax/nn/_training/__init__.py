"""Training: against the errors of the hardware, and on the devices themselves."""
