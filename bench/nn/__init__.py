"""Networks on crossbars: accuracy, and speed beside other simulators."""
