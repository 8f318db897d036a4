"""What a run's rows say together: drift, differences, the effect of temperature."""
