"""Sound files in, speech out: reading, detecting speech, cutting windows of up to 30 s."""
