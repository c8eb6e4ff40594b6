"""Hearing: log-mel features, Whisper's encoder, and which language is spoken."""
