"""What a person, a machine or a schedule starts."""
