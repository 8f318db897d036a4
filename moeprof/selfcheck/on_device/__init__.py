"""The parts of the audit that need no planted truth, run on a real device."""
